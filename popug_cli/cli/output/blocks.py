"""The blocks of which an answer for people consists; the printer and ``plain_text`` decide how they look."""

from collections.abc import Sequence

import msgspec


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    On a narrow terminal, columns with ``shrinks`` are narrowed. If that is not enough, columns with ``drop_priority``
    are dropped, the highest first; then the others are narrowed further. A chart (``is_chart``) repeats the data of
    other columns, so plain output leaves it out. ``accessible_name`` replaces ``name`` in plain output.
    """

    name: str
    align_right: bool = False
    shrinks: bool = False
    style: str = ""
    drop_priority: int = 0
    is_chart: bool = False
    accessible_name: str = ""


class Table(msgspec.Struct, frozen=True):
    """Rows of text; ``empty`` is printed if there are none."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    empty: str = ""
    footer: str = ""


class Hint(msgspec.Struct, frozen=True):
    """A hint about what to do next, printed dim."""

    text: str


class Heading(msgspec.Struct, frozen=True):
    """A heading of one line."""

    text: str


class Panel(msgspec.Struct, frozen=True):
    """Terms and their meanings, under a title."""

    title: str
    rows: Sequence[tuple[str, str]]


Block = str | Table | Hint | Heading | Panel
