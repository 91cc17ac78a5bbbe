"""Sample events, with which `popug hooks try` runs a hook whose event types the log does not contain yet."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import inspect

from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import EVENTS
from popug_cli.messages.bus import EnvelopeDocument

SAMPLE_ID = "00000000-0000-7000-8000-000000000000"


def make_sample_event(event_type: str, now: datetime) -> EnvelopeDocument:
    """Return an envelope whose made-up data fits the schema of the event type."""
    event_class = EVENTS[event_type]
    data = _sample_value(inspect.type_info(event_class), "data", now)
    counts_for = {"businessdate": now.date().isoformat()} if event_class.SOURCE == "/popug/tasks" else {}
    return {
        "specversion": "1.0",
        "id": SAMPLE_ID,
        "source": event_class.SOURCE,
        "type": event_type,
        "subject": str(data.get(event_class.SUBJECT_FIELD, SAMPLE_ID)),
        "time": to_rfc3339(now),
        "datacontenttype": "application/json",
        "dataschema": event_class.SCHEMA,
        "sequence": "0",
        "correlationid": SAMPLE_ID,
        "actor": "nobody",
        **counts_for,
        "data": data,
    }


def _sample_value(field_type: Any, name: str, now: datetime) -> Any:
    """Return a value that fits the type, or None for an unknown type."""
    text = SAMPLE_ID if name.endswith("_id") else f"sample {name}"
    value_functions: dict[type[inspect.Type], Callable[[], Any]] = {
        inspect.StructType: lambda: {
            field.encode_name: _sample_value(field.type, field.name, now) for field in field_type.fields
        },
        inspect.UnionType: lambda: _sample_value(field_type.types[0], name, now),
        inspect.ListType: lambda: [_sample_value(field_type.item_type, name, now)],
        inspect.EnumType: lambda: next(iter(field_type.cls)).value,
        inspect.LiteralType: lambda: field_type.values[0],
        inspect.IntType: lambda: max(1, field_type.ge or 0),
        inspect.BoolType: lambda: True,
        inspect.DictType: dict,
        inspect.DateType: lambda: now.date().isoformat(),
        inspect.DateTimeType: lambda: to_rfc3339(now),
        inspect.StrType: lambda: text,
    }
    return value_functions.get(type(field_type), lambda: None)()
