"""Reading very many rows: past SQLAlchemy, which takes ten times as long for each."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from popug_cli.bus.runtime import Context


def rows(context: Context, statement: str, parameters: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement with ``?`` places, in the context's own transaction; few are in memory at a time."""
    driver = context.connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    yield from driver.execute(statement, parameters)
