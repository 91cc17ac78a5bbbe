"""What somebody may have meant who mistyped a word."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

CLOSE_ENOUGH = 0.6
_NOT_A_CHOICE = re.compile(r"'([^']*)' is not one of (.*)\.")


def of_choices(said: str) -> str:
    """The nearest of the choices that a refusal names, as a sentence with a space behind it."""
    found = _NOT_A_CHOICE.search(said)
    return of_words(found[1], re.findall(r"'([^']*)'", found[2])) if found else ""


def of_words(typed: str, words: Iterable[str]) -> str:
    """The nearest of some words, as a sentence with a space behind it; nothing where none is near."""
    near = get_close_matches(typed.lower(), [*words], n=2, cutoff=CLOSE_ENOUGH)
    return f"Did you mean {' or '.join(near)}? " if near else ""
