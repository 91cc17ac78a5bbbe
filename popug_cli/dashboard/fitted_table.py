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
MIN_FLEXIBLE_WIDTH, MIN_TEXT_WIDTH = 30, 10
TextCells = Sequence[str]


@dataclass(frozen=True)
class Rows:
    """Column names and rows.

    `flexible_column` is the index of the column that shrinks first. `number_columns` has the indexes of the columns
    that never shrink and are aligned to the right.
    """

    column_names: TextCells
    rows: Sequence[TextCells]
    flexible_column: int
    number_columns: frozenset[int]


class FittedTable(DataTable[Text]):
    """A table of rows. After an update the cursor stays on the row with the same first cell."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.shown_rows: Rows | None = None
        self._shown_width = 0

    def show(self, rows: Rows) -> None:
        """Replace the shown rows."""
        if (rows, self.size.width) == (self.shown_rows, self._shown_width):
            return
        self.shown_rows, self._shown_width = rows, self.size.width
        selected_cell, previous_row, previous_scroll_y = self.first_cell_at_cursor, self.cursor_row, self.scroll_y
        with self.app.batch_update():
            self._fill(rows)
            matching = (index for index, row in enumerate(rows.rows) if row[0] == selected_cell)
            self.move_cursor(row=min(next(matching, previous_row), max(0, len(rows.rows) - 1)), scroll=False)
            self.scroll_to(y=previous_scroll_y, animate=False)

    @property
    def first_cell_at_cursor(self) -> str:
        """Return the first cell of the row at the cursor, or an empty string."""
        return self.get_row_at(self.cursor_row)[0].plain if self.is_valid_row_index(self.cursor_row) else ""

    def on_resize(self) -> None:
        """Fit the rows to the new width, and keep the cursor visible."""
        if self.shown_rows is not None:
            self.show(self.shown_rows)
            self.call_after_refresh(self.move_cursor, row=self.cursor_row)

    def _fill(self, rows: Rows) -> None:
        widths = _column_widths(rows, self.size.width)
        self.clear(columns=True)
        for index, name in enumerate(rows.column_names):
            self.add_column(_cell(name, widths[index], right=index in rows.number_columns), width=widths[index])
        for row in rows.rows:
            self.add_row(
                *(_cell(text, widths[index], right=index in rows.number_columns) for index, text in enumerate(row))
            )


def _cell(text: str, width: int, *, right: bool) -> Text:
    cell = plain(text, right=right)
    cell.truncate(width, overflow="ellipsis")
    return cell


def _column_widths(rows: Rows, table_width: int) -> list[int]:
    columns = ([name, *(row[index] for row in rows.rows)] for index, name in enumerate(rows.column_names))
    widths = [max(plain(text).cell_len for text in column) for column in columns]
    widths[rows.flexible_column] = MIN_FLEXIBLE_WIDTH
    available_width = table_width - SCROLLBAR_CELLS - CELL_PADDING * len(widths)
    text_columns = [index for index in range(len(widths)) if index not in rows.number_columns | {rows.flexible_column}]
    while sum(widths) > available_width and any(widths[index] > MIN_TEXT_WIDTH for index in text_columns):
        widths[max(text_columns, key=widths.__getitem__)] -= 1
    widths[rows.flexible_column] += max(0, available_width - sum(widths))
    return widths
