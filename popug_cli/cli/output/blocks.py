"""What an answer for people is made of; how it looks is the printer's."""

from collections.abc import Sequence

import msgspec


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    A flexible one is cut where the terminal is too narrow; then those that can be spared go, the highest first. A
    picture shows what other columns say, and is for eyes only.
    """

    name: str
    align_right: bool = False
    shrinks: bool = False
    style: str = ""
    drop_priority: int = 0
    is_chart: bool = False
    accessible_name: str = ""


class Table(msgspec.Struct, frozen=True):
    """Rows for people; ``empty`` is the sentence that stands for no rows."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    empty: str = ""
    footer: str = ""


class Hint(msgspec.Struct, frozen=True):
    """What to do next, set apart from the answer."""

    text: str


class Heading(msgspec.Struct, frozen=True):
    """A line that names what follows."""

    text: str


class Panel(msgspec.Struct, frozen=True):
    """Terms with what they mean, under a title."""

    title: str
    rows: Sequence[tuple[str, str]]


Block = str | Table | Hint | Heading | Panel
