"""The published language is complete: every message is declared, documented and handled under its own name."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import UnionType
from typing import Any, get_args

import msgspec
import pytest

from popug_cli import messages
from popug_cli.app import handlers
from popug_cli.kernel.errors import PopugError
from popug_cli.messages import internal
from popug_cli.messages.base import DECLARATIONS, EVENTS, Command, Declaration, Event, Message, Query

for package in (messages, internal):
    for found in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{found.name}")

GENERIC = {Message, Command, Query}


def classes_below(root: type[Any]) -> Iterator[type[Any]]:
    """Yield the subclasses of popug; tests declare some of their own."""
    for below in root.__subclasses__():
        if below.__module__.startswith("popug_cli."):
            yield below
        yield from classes_below(below)


def handler_of(declaration: Declaration) -> Any:
    return handlers.find(declaration.message).function


every_declaration = pytest.mark.parametrize("declaration", [*DECLARATIONS.values()], ids=lambda each: each.name)
every_event = pytest.mark.parametrize("shape", list(EVENTS.values()), ids=list(EVENTS))


def test_every_message_class_is_declared() -> None:
    undeclared = {each.__name__ for each in classes_below(Message) if each not in GENERIC | set(DECLARATIONS)}
    assert undeclared == set(), "say @declare(...) of each"


def test_every_event_class_is_declared() -> None:
    undeclared = {each.__name__ for each in classes_below(Event) if each not in EVENTS.values()}
    assert undeclared == set(), "say @event(...) of each"


def test_names_are_unique() -> None:
    names = [declaration.name for declaration in DECLARATIONS.values()]
    assert len(names) == len(set(names))


@every_declaration
def test_message_handler_takes_it_and_returns_its_answer(declaration: Declaration) -> None:
    handler = handler_of(declaration)
    taken = inspect.get_annotations(handler, eval_str=False)
    assert declaration.message.__name__ in {_name(annotation) for annotation in taken.values()}
    answers = {_name(each) for each in _alternatives(taken["return"]) if not _is_refusal(each)}
    assert answers <= {_name(declaration.answer), *_follow_ups(declaration)}


@every_declaration
def test_message_is_a_documented_frozen_json_struct(declaration: Declaration) -> None:
    shape = declaration.message
    assert (shape.__doc__ or "").rstrip().endswith(".")
    assert shape.__struct_config__.frozen
    assert shape.__struct_config__.forbid_unknown_fields
    msgspec.json.schema(shape)
    msgspec.json.schema(declaration.answer)


@every_event
def test_event_is_a_documented_frozen_struct_with_subject(shape: type[Event]) -> None:
    assert (shape.__doc__ or "").rstrip().endswith(".")
    assert shape.__struct_config__.frozen
    assert shape.SUBJECT_FIELD in {field.name for field in msgspec.structs.fields(shape)}


def _follow_ups(declaration: Declaration) -> set[str]:
    """Return the queries that may answer a command: those of its module with the same answer."""
    same = {_name(other.message) for other in DECLARATIONS.values() if _answers_for(declaration, other)}
    return same if declaration.is_command else set()


def _answers_for(declaration: Declaration, other: Declaration) -> bool:
    same_module = declaration.handler.partition(".")[0] == other.handler.partition(".")[0]
    return same_module and not other.is_command and other.answer == declaration.answer


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _is_refusal(annotation: Any) -> bool:
    """Return whether a type is a refusal, which a handler may return so that its writes are kept."""
    return isinstance(annotation, type) and issubclass(annotation, PopugError)


def _name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
