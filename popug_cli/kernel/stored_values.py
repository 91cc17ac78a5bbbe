"""Parse stored texts that only popug writes; any other text there is damage, not invalid input."""

from datetime import date
from enum import StrEnum
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)


class InvalidStoredValue(ValueError):
    """A stored text is not one that popug writes there."""


def from_iso_date(text: str) -> date:
    """Return the date of a stored ISO 8601 text; raise ``InvalidStoredValue`` for any other text."""
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise InvalidStoredValue(f"{text!r} is not a date") from error


def choice_of(choices: type[Choice], text: str) -> Choice:
    """Return the member of an enumeration that is stored as ``text``; raise ``InvalidStoredValue`` for other texts."""
    try:
        return choices(text)
    except ValueError as error:
        raise InvalidStoredValue(str(error)) from error
