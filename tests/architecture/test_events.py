"""The schema of every version of every event is committed; a released one never changes but for its descriptions."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from popug_cli.messages.base import EVENTS, Event, Id, schema_uri
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


@every_event
def test_committed_schema_has_current_descriptions(shape: type[Event]) -> None:
    written = schemas.file_of(shape.TYPE).read_text(encoding="utf-8")
    assert written == schemas.text_of(shape), "Run `python -m tests.generate` and commit what it writes."


Fields = dict[str, Any]
DRAWN: Fields = {"seed": str, "weight": Annotated[int, msgspec.Meta(ge=1)]}
FED: Fields = {
    "cage_id": Id,
    "grains": Annotated[int, msgspec.Meta(ge=1)],
    "draw": msgspec.defstruct("D", DRAWN.items()),
}


def cage_fed(description: str, fields: Fields = FED) -> type[Event]:
    """Return an event that is declared here only, with a description and some fields."""
    shape = msgspec.defstruct("CageFed", fields.items(), bases=(Event,), frozen=True, kw_only=True)
    assert issubclass(shape, Event)
    shape.__doc__ = description
    shape.NAME, shape.VERSION, shape.TYPE = "cage_fed", 1, "popug.cages.cage_fed.v1"
    return shape


@pytest.fixture
def temporarily_declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Event]], None]:
    """Return a function that declares an event until the test ends; all schemas go to a folder of the test's own."""
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    monkeypatch.setattr(schemas, "RELEASED", tmp_path / "released.json")

    def declare(shape: type[Event]) -> None:
        monkeypatch.setitem(EVENTS, shape.TYPE, shape)

    return declare


def generate() -> None:
    for file, text in schemas.made():
        file.write_text(text(), encoding="utf-8")


def check_freeze(shape: type[Event]) -> None:
    test_schema_of_an_event_is_committed(shape)
    for event_type, frozen in schemas.released().items():
        test_released_schema_is_unchanged(event_type, frozen)


def test_reworded_released_schema_is_renewed(temporarily_declare: Callable[[type[Event]], None]) -> None:
    temporarily_declare(cage_fed("Somebody fed a cage."))
    generate()
    schemas.release()
    frozen = schemas.RELEASED.read_text()
    reworded = cage_fed("A worker fed a cage.")
    temporarily_declare(reworded)
    check_freeze(reworded)
    generate()
    check_freeze(reworded)
    assert schemas.committed(reworded.TYPE) == schemas.schema_of(reworded)
    assert schemas.committed(reworded.TYPE)["description"] == "A worker fed a cage."
    assert schemas.RELEASED.read_text() == frozen


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        (FED | {"keeper": str}, "the field cage_fed.keeper is new"),
        ({"cage_id": Id, "draw": FED["draw"]}, "the field cage_fed.grains has vanished"),
        (FED | {"grains": Annotated[float, msgspec.Meta(ge=1)]}, "the field cage_fed.grains was"),
        (FED | {"grains": Annotated[int, msgspec.Meta(ge=2)]}, "the field cage_fed.grains was"),
        (FED | {"draw": msgspec.defstruct("D", (DRAWN | {"weight": int}).items())}, "the field D.weight was"),
    ],
    ids=["new field", "removed field", "type", "constraint", "constraint in a nested object"],
)
def test_changed_released_schema_fails_the_freeze(
    temporarily_declare: Callable[[type[Event]], None], fields: Fields, change: str
) -> None:
    old = cage_fed("Somebody fed a cage.")
    temporarily_declare(old)
    generate()
    schemas.release()
    committed = schemas.file_of(old.TYPE).read_text()
    changed = cage_fed("A worker fed a cage.", fields)
    temporarily_declare(changed)
    for _ in range(2):
        with pytest.raises(AssertionError, match=change) as failure:
            check_freeze(changed)
        assert "A released version is never edited" in str(failure.value)
        generate()
        assert schemas.file_of(old.TYPE).read_text() == committed
    schemas.file_of(old.TYPE).write_text(schemas.text_of(changed))
    with pytest.raises(AssertionError, match="was edited after its release"):
        check_freeze(changed)


def test_edited_released_file_fails_the_freeze(temporarily_declare: Callable[[type[Event]], None]) -> None:
    shape = cage_fed("A worker fed a cage.")
    temporarily_declare(shape)
    generate()
    schemas.release()
    file = schemas.file_of(shape.TYPE)
    file.write_text(file.read_text().replace('"minimum": 1', '"minimum": 0'))
    edited = file.read_text()
    generate()
    assert file.read_text() == edited
    with pytest.raises(AssertionError, match="was edited after its release"):
        test_released_schema_is_unchanged(shape.TYPE, schemas.released()[shape.TYPE])


def test_hint_names_the_new_version() -> None:
    class TaskCreatedV1(msgspec.Struct):
        VERSION = 1

    assert "add TaskCreated as version 2" in schemas.way_out(TaskCreatedV1)  # type: ignore[arg-type]
