"""Mutants that no test can kill or should: named in ``equivalent.toml`` by what they change, each with the reason."""

import tomllib
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("equivalent.toml")


class Equivalent(NamedTuple):
    """A line of a function, what it may become without anybody noticing (anything, where not said), and why."""

    function: str
    was: str
    becomes: tuple[str, ...]
    reason: str

    def covers(self, function: str, difference: tuple[str, str]) -> bool:
        was, became = difference
        return (function, was) == (self.function, self.was) and (not self.becomes or became in self.becomes)


def named() -> list[Equivalent]:
    """All that are named in the file."""
    return [
        Equivalent(entry["function"], entry["was"], tuple(entry.get("becomes", ())), entry["reason"])
        for entry in tomllib.loads(FILE.read_text("utf-8")).get("equivalent", ())
    ]
