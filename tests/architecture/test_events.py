"""Every version of every event has its schema committed, and a released one never changes."""

from typing import Any

import msgspec
import pytest

from popug_cli.messages.base import EVENTS, Event, schema_uri
from popug_cli.messages.upcasters import UPCASTERS, versions
from tests.generate import schemas

every_event = pytest.mark.parametrize("shape", list(EVENTS.values()), ids=list(EVENTS))


@every_event
def test_schema_of_an_event_is_committed(shape: type[Event]) -> None:
    changed = [*schemas.changes(shape.NAME, schemas.committed(shape.TYPE), schemas.schema_of(shape))]
    what_to_do = "Run `python -m tests.generate` and commit what it writes."
    if shape.TYPE in schemas.released():
        what_to_do = schemas.way_out(shape)
    assert changed == [], f"{shape.TYPE}: {'; '.join(changed)}. {what_to_do}"
    assert schemas.committed(shape.TYPE)["$id"] == schema_uri(shape.TYPE)


@pytest.mark.parametrize(("event_type", "frozen"), schemas.released().items())
def test_released_schema_is_unchanged(event_type: str, frozen: str) -> None:
    assert event_type in EVENTS, f"{event_type} was released: events of it lie in logs and must stay readable"
    told = f"{schemas.file_of(event_type)} was edited after its release. {schemas.way_out(EVENTS[event_type])}"
    assert schemas.fingerprint(schemas.committed(event_type)) == frozen, told


def test_removed_event_leaves_no_schema() -> None:
    assert {file.stem for file in schemas.FOLDER.glob("popug.*.json")} == set(EVENTS)


@every_event
def test_old_version_is_upcast_to_the_next(shape: type[Event]) -> None:
    newest = max(versions(shape), key=lambda version: version.VERSION)
    assert (shape in UPCASTERS) == (shape is not newest)


BEFORE: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "number": {"type": "integer"}, "draw": {"$ref": "#/$defs/Draw"}},
    "required": ["title", "draw"],
    "$defs": {"Draw": {"type": "object", "properties": {"seed": {"type": "string"}}, "required": ["seed"]}},
}


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (BEFORE | {"title": "Other", "description": "Other words."}, []),
        (BEFORE | {"properties": {**BEFORE["properties"], "x": {}}}, ["the field task.x is new"]),
        (BEFORE | {"required": ["title", "number", "draw"]}, ["the field task.number is now required"]),
        (BEFORE | {"required": ["draw"]}, ["the field task.title was required"]),
        (BEFORE | {"type": "array"}, ['task itself was {"type": "object"} and is {"type": "array"}']),
        (
            BEFORE | {"properties": {"title": {"type": "integer"}, "draw": {"$ref": "#/$defs/Draw"}}},
            [
                "the field task.number has vanished",
                'the field task.title was {"type": "string"} and is {"type": "integer"}',
            ],
        ),
        (
            BEFORE | {"$defs": {"Draw": {"type": "object", "required": ["seed"]}}},
            ["the field Draw.seed has vanished"],
        ),
    ],
)
def test_changed_field_of_schema_is_named(after: dict[str, Any], told: list[str]) -> None:
    assert [*schemas.changes("task", BEFORE, after)] == told
    assert (schemas.fingerprint(after) == schemas.fingerprint(BEFORE)) == (not told)


def test_hint_names_the_new_version() -> None:
    class TaskCreatedV1(msgspec.Struct):
        VERSION = 1

    assert "add TaskCreated as version 2" in schemas.way_out(TaskCreatedV1)  # type: ignore[arg-type]
