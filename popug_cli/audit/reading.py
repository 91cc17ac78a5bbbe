"""Read the fields of events that the checks compare."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE, IS_RARE
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.base import Event

E = TypeVar("E", bound=Event)


class CheckedEvent(msgspec.Struct, Generic[E], frozen=True):
    """The fields of an event that are checked; ``type`` and ``time`` are the texts in the envelope."""

    id: str
    type: str
    time: str
    data: E
    causationid: str | None = None
    businessdate: str | None = None


@lru_cache(maxsize=1024)
def normalize_time(instant: str) -> str:
    """Normalize a timestamp to the stored format; return any other text unchanged."""
    try:
        return to_rfc3339(from_rfc3339(instant))
    except ValueError:
        return instant


def read_rare_events(context: Context, kind: type[E]) -> Iterator[tuple[int, CheckedEvent[E]]]:
    """Yield position and event for every event of a rare kind, ordered by position.

    Events in an older version, and those that do not fit the schema, are left out.
    """
    decode = msgspec.json.Decoder(CheckedEvent[kind]).decode  # type: ignore[valid-type]
    statement = f"SELECT sequence, {ENVELOPE} FROM bus_log WHERE type = ? AND {IS_RARE} ORDER BY +sequence"
    for sequence, envelope in context.connection.stream(statement, kind.TYPE):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            yield sequence, decode(envelope)
