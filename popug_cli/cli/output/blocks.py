"""The blocks that an answer for people is made of; the printer decides how they look."""

from collections.abc import Sequence

import msgspec


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    On a narrow terminal, columns with ``shrinks`` are cut. If that is not enough, columns with ``drop_priority`` are
    dropped, the highest first. A chart (``is_chart``) repeats the data of other columns, so plain output leaves it out.
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
    """A hint what to do next, printed dim after the answer."""

    text: str


class Heading(msgspec.Struct, frozen=True):
    """A heading of one line."""

    text: str


class Panel(msgspec.Struct, frozen=True):
    """Terms and their meanings, under a title."""

    title: str
    rows: Sequence[tuple[str, str]]


Block = str | Table | Hint | Heading | Panel
