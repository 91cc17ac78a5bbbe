"""A table that fits its width: text columns shrink, then they are left out; numbers and dates are never cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from popug_cli.dashboard.text import plain

CELL_PADDING = 2
SCROLLBAR_CELLS = 2
MIN_COMFORTABLE_WIDTH, MIN_FLEXIBLE_WIDTH, MIN_TEXT_WIDTH = 30, 8, 10
TextCells = Sequence[str]


@dataclass(frozen=True)
class Rows:
    """Column names and rows.

    `flexible_column` is the index of the text column that takes the remaining width. `number_columns` has the
    indexes of the columns that are shown whole or not at all, aligned to the right.
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
        widths = fitted_widths(rows, self.size.width)
        self.clear(columns=True)
        for index, width in widths.items():
            self.add_column(_cell(rows.column_names[index], width, right=index in rows.number_columns), width=width)
        for row in rows.rows:
            self.add_row(
                *(_cell(row[index], width, right=index in rows.number_columns) for index, width in widths.items())
            )


def _cell(text: str, width: int, *, right: bool) -> Text:
    cell = plain(text, right=right)
    cell.truncate(width, overflow="ellipsis")
    return cell


def fitted_widths(rows: Rows, table_width: int) -> dict[int, int]:
    """Return the columns that are shown, each with its width in cells.

    Text columns are left out from the right until the others fit, then the number columns, but never the first.
    """
    columns = ([name, *(row[index] for row in rows.rows)] for index, name in enumerate(rows.column_names))
    natural_widths = dict(enumerate(max(plain(text).cell_len for text in column) for column in columns))
    droppable = [
        *(index for index in reversed(natural_widths) if index not in rows.number_columns | {rows.flexible_column}),
        rows.flexible_column,
        *(index for index in reversed(natural_widths) if index in rows.number_columns and index),
    ]
    while (widths := _fit(natural_widths, rows, table_width)) is None and droppable:
        del natural_widths[droppable.pop(0)]
    return widths or natural_widths


def _fit(natural_widths: dict[int, int], rows: Rows, table_width: int) -> dict[int, int] | None:
    """Return the widths of the columns if they fit, else None."""
    widths = natural_widths | ({rows.flexible_column: 0} if rows.flexible_column in natural_widths else {})
    room = table_width - SCROLLBAR_CELLS - CELL_PADDING * len(widths) - sum(widths.values())
    if rows.flexible_column not in widths:
        return widths if room >= 0 else None
    shrinkable = [index for index in widths if index not in rows.number_columns | {rows.flexible_column}]
    while room < MIN_COMFORTABLE_WIDTH and any(widths[index] > MIN_TEXT_WIDTH for index in shrinkable):
        widths[max(shrinkable, key=widths.__getitem__)] -= 1
        room += 1
    return widths | {rows.flexible_column: room} if room >= MIN_FLEXIBLE_WIDTH else None
