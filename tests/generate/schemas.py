"""Generate the JSON Schemas of the events for ``python -m tests.generate``; ``--release`` freezes all of them.

A change to a frozen schema needs a new version. Titles and descriptions are not frozen: the generator renews them in
released files too, but only where nothing else would change.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import msgspec

from popug_cli import messages
from popug_cli.messages.base import EVENTS, Event, schema_uri

for module in iter_modules(messages.__path__):
    import_module(f"{messages.__name__}.{module.name}")

FOLDER = Path(messages.__path__[0]) / "schemas"
RELEASED = FOLDER / "released.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANNOTATIONS = ("title", "description")
WAY_OUT = (
    "A released version is never edited: keep its class as it was under the name {name}V{version}, add {name} as"
    " version {next} and an upcaster in messages/upcasters.py."
)

Schema = dict[str, Any]


def schema_of(shape: type[Event]) -> Schema:
    """Return the schema of an event's data, with its root inline instead of behind a reference."""
    generated = msgspec.json.schema(shape)
    others: Schema = generated.get("$defs", {})
    root: Schema = others.pop(generated["$ref"].rpartition("/")[2])
    head = {"$schema": DIALECT, "$id": schema_uri(shape.TYPE)}
    return head | root | ({"$defs": others} if others else {})


def file_of(event_type: str) -> Path:
    """Return the file in which the schema of a type is committed."""
    return FOLDER / f"{event_type}.json"


def committed(event_type: str) -> Schema:
    """Return the committed schema of a type, or an empty one if there is no file."""
    return _read(file_of(event_type))


def released() -> dict[str, str]:
    """Return the fingerprint of each released type."""
    return _read(RELEASED)


def fingerprint(schema: Schema) -> str:
    """Return the SHA-256 of the part of a schema that binds readers."""
    return sha256(json.dumps(binding(schema), sort_keys=True).encode()).hexdigest()


def binding(schema: Any) -> Any:
    """Return the schema without its titles and descriptions."""
    if isinstance(schema, list):
        return [binding(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    explains = {key for key in ANNOTATIONS if isinstance(schema.get(key), str)}
    return {key: binding(value) for key, value in schema.items() if key not in explains}


def changes(name: str, old_schema: Schema, new_schema: Schema) -> Iterator[str]:
    """Yield a sentence for each field that was changed, added or removed, and one for any other change."""
    old, new = binding(old_schema), binding(new_schema)
    fields, new_fields = old.pop("properties", {}), new.pop("properties", {})
    required, new_required = set(old.pop("required", [])), set(new.pop("required", []))
    shapes, new_shapes = old.pop("$defs", {}), new.pop("$defs", {})
    for field in sorted(fields.keys() | new_fields.keys()):
        if field not in new_fields:
            yield f"the field {name}.{field} has vanished"
        elif field not in fields:
            yield f"the field {name}.{field} is new"
        elif fields[field] != new_fields[field]:
            yield f"the field {name}.{field} was {_json(fields[field])} and is {_json(new_fields[field])}"
        elif (field in required) != (field in new_required):
            yield f"the field {name}.{field} {'was' if field in required else 'is now'} required"
    for shape in sorted(shapes.keys() | new_shapes.keys()):
        yield from changes(shape, shapes.get(shape, {}), new_shapes.get(shape, {}))
    if old != new:
        yield f"{name} itself was {_json(old)} and is {_json(new)}"


def way_out(shape: type[Event]) -> str:
    """Return what to do instead of changing a released version."""
    name = shape.__name__.removesuffix(f"V{shape.VERSION}")
    return WAY_OUT.format(name=name, version=shape.VERSION, next=shape.VERSION + 1)


def made() -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield the file of each schema, and the function that returns its text.

    A released file is left out where more than titles and descriptions would change: the freeze must fail on it.
    """
    frozen = released()
    for event_type, shape in sorted(EVENTS.items()):
        if event_type not in frozen or fingerprint(committed(event_type)) == fingerprint(schema_of(shape)):
            yield file_of(event_type), partial(text_of, shape)


def text_of(shape: type[Event]) -> str:
    """Return the text of a schema's file."""
    return _json(schema_of(shape), indent=2) + "\n"


def drop_unreleased(*, deletes: bool) -> list[Path]:
    """Return the schemas of removed event types that were never released; delete them if that is wanted."""
    known = EVENTS.keys() | released().keys()
    gone = [file for file in sorted(FOLDER.glob("popug.*.json")) if file.stem not in known]
    for file in gone if deletes else ():
        file.unlink()
    return gone


def release() -> None:
    """Freeze every committed schema."""
    frozen = {event_type: fingerprint(committed(event_type)) for event_type in EVENTS} | released()
    RELEASED.write_text(_json(dict(sorted(frozen.items())), indent=2) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return content


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)
