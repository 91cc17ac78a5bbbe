"""Mutants that no test can or should kill: ``equivalent.toml`` names their change and the reason."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("equivalent.toml")
SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|GROUP BY|ORDER BY|UNION|ON CONFLICT|VALUES|SET|JOIN|AND|OR)\b"
)
HEEDED = re.compile(r"'[^']*'|:\w+")


class Equivalent(NamedTuple):
    """A line of a function, its equivalent replacements (any, if not named), and the reason."""

    function: str
    was: str
    becomes: tuple[str, ...]
    reason: str

    def covers(self, function: str, difference: tuple[str, str]) -> bool:
        was, became = difference
        return (function, was) == (self.function, self.was) and (not self.becomes or became in self.becomes)


def named() -> list[Equivalent]:
    """Return all entries of the file."""
    return [
        Equivalent(entry["function"], entry["was"], tuple(entry.get("becomes", ())), entry["reason"])
        for entry in tomllib.loads(FILE.read_text("utf-8")).get("equivalent", ())
    ]


def is_letter_case_of_sql(difference: tuple[str, str]) -> bool:
    """Return whether a statement differs in the case of keywords and names only, which SQLite ignores."""
    was, became = difference
    same_words = was.casefold() == became.casefold() and HEEDED.findall(was) == HEEDED.findall(became)
    return same_words and SQL.search(was) is not None
