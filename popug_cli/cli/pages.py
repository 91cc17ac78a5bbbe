"""Lists longer than one answer: they are fetched page by page."""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from popug_cli.messages.base import MAX_ANSWER_ROWS

Row = TypeVar("Row")


def fetch_rows(fetch: Callable[[Any], list[Row]], message: Any) -> list[Row]:
    """Return all rows of a query that has an ``offset``; ``fetch`` returns the rows of one answer."""
    page = fetch(message)
    rows = [*page]
    while len(page) == MAX_ANSWER_ROWS:
        page = fetch(replace(message, offset=message.offset + len(rows)))
        rows += page
    return rows
