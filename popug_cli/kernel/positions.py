"""Positions in the logs of servers, which a client keeps so that no server shows less than it has seen.

The text form, in the header field ``Popug-Position``, is ``SOURCE=NUMBER.LOG`` for each source, joined by commas:
``company=1042.7f3a21c9, database=2210.7f3a21c9``. ``company`` is the log, ``database`` the count of its write
transactions. In a cluster, each service has its own: ``tasks`` and, on a server, ``tasksdatabase``. Numbers of
different logs are not compared.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

COMPANY, DATABASE = "company", "database"
MAX_SOURCES = 16
MAX_TEXT_CHARACTERS = 1_000
_ITEM = re.compile(r"\s*([a-z]{1,20})=([0-9]{1,18})\.([0-9a-f]{1,32})\s*")


class Position(NamedTuple):
    """A number in a log, and the digits that distinguish the log's id from others."""

    number: int
    log_id: str


Positions = Mapping[str, Position]


class KnownPositions:
    """The positions of one company that a program has seen, kept in memory."""

    def __init__(self, positions: Positions | None = None) -> None:
        self._positions: Positions = positions or {}

    def read(self) -> Positions:
        """Return the greatest positions, by source."""
        return self._positions

    def keep(self, positions: Positions) -> None:
        """Add newer positions."""
        self._positions = merge(self._positions, positions)


def parse(text: str | None) -> dict[str, Position]:
    """Return the positions in a text; ignore what is not valid."""
    found: dict[str, Position] = {}
    for item in (text or "")[:MAX_TEXT_CHARACTERS].split(",")[:MAX_SOURCES]:
        if match := _ITEM.fullmatch(item):
            found[match[1]] = Position(int(match[2]), match[3])
    return found


def text_of(positions: Positions) -> str:
    """Return the text form."""
    return ", ".join(f"{source}={number}.{log_id}" for source, (number, log_id) in positions.items())


def merge(older: Positions, newer: Positions) -> dict[str, Position]:
    """Return the newer log of each source, with the greatest number in it."""
    merged = {**older, **newer}
    for source, position in older.items():
        if position.log_id == merged[source].log_id:
            merged[source] = max(position, merged[source])
    return dict([*merged.items()][:MAX_SOURCES])
