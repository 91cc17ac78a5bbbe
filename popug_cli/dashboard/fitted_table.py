"""A table that fits its width: one column shrinks first, then the other text columns; number columns never do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from popug_cli.dashboard.text import plain

CELL_PADDING = 2
SCROLLBAR_CELLS = 2
MIN_WIDTH, MIN_WORD = 30, 10
TextCells = Sequence[str]


@dataclass(frozen=True)
class Rows:
    """Column names and rows. `flexible` is the index of the column that shrinks first, `right` those of numbers."""

    names: TextCells
    rows: Sequence[TextCells]
    flexible: int
    right: frozenset[int]


class FittedTable(DataTable[Text]):
    """Shows rows. After an update the cursor stays on the row with the same first cell."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.shown: Rows | None = None
        self._shown_width = 0

    def show(self, rows: Rows) -> None:
        """Replace the shown rows."""
        if (rows, self.size.width) == (self.shown, self._shown_width):
            return
        self.shown, self._shown_width = rows, self.size.width
        chosen, at, top = self.chosen, self.cursor_row, self.scroll_y
        with self.app.batch_update():
            self._fill(rows)
            matching = (index for index, row in enumerate(rows.rows) if row[0] == chosen)
            self.move_cursor(row=min(next(matching, at), max(0, len(rows.rows) - 1)), scroll=False)
            self.scroll_to(y=top, animate=False)

    @property
    def chosen(self) -> str:
        """Return the first cell of the row at the cursor, or an empty string."""
        return self.get_row_at(self.cursor_row)[0].plain if self.is_valid_row_index(self.cursor_row) else ""

    def on_resize(self) -> None:
        """Fit the rows to the new width, and keep the cursor visible."""
        if self.shown is not None:
            self.show(self.shown)
            self.call_after_refresh(self.move_cursor, row=self.cursor_row)

    def _fill(self, rows: Rows) -> None:
        widths = _widths(rows, self.size.width)
        self.clear(columns=True)
        for index, name in enumerate(rows.names):
            self.add_column(_cell(name, widths[index], right=index in rows.right), width=widths[index])
        for row in rows.rows:
            self.add_row(*(_cell(text, widths[index], right=index in rows.right) for index, text in enumerate(row)))


def _cell(text: str, width: int, *, right: bool) -> Text:
    cell = plain(text, right=right)
    cell.truncate(width, overflow="ellipsis")
    return cell


def _widths(rows: Rows, available: int) -> list[int]:
    columns = ([name, *(row[index] for row in rows.rows)] for index, name in enumerate(rows.names))
    widths = [max(plain(text).cell_len for text in column) for column in columns]
    widths[rows.flexible] = MIN_WIDTH
    room = available - SCROLLBAR_CELLS - CELL_PADDING * len(widths)
    words = [index for index in range(len(widths)) if index not in rows.right | {rows.flexible}]
    while sum(widths) > room and any(widths[index] > MIN_WORD for index in words):
        widths[max(words, key=widths.__getitem__)] -= 1
    widths[rows.flexible] += max(0, room - sum(widths))
    return widths
