"""Transactions straight on sqlite3 behind the few methods of SQLAlchemy's connection that handlers use.

SQLAlchemy takes five times as long as SQLite, which is too slow for a million operations. The statements, the
transactions and their order are the program's own. Every few worlds run on the real engine, and a test checks that one
seed gives the same end state on both.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import TextClause

from popug_cli.storage.engine import PRAGMAS

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")


class ThinRow(tuple[Any, ...]):
    """A row whose columns are attributes, too; each statement has its own subclass."""

    __slots__ = ()


@cache
def _row_class(names: tuple[str, ...]) -> type[ThinRow]:
    def at(place: int) -> property:
        return property(lambda row: tuple.__getitem__(row, place))

    places = {name: at(place) for place, name in enumerate(names) if _IDENTIFIER.match(name)}
    return type("Row", (ThinRow,), {"__slots__": (), **places})


class Values(list[Any]):
    """A column of a result."""

    def all(self) -> list[Any]:
        return self

    def first(self) -> Any:
        return self[0] if self else None

    def one(self) -> Any:
        (only,) = self
        return only

    def partitions(self, size: int) -> Iterator[list[Any]]:
        return (self[start : start + size] for start in range(0, len(self), size))


class ThinResult:
    """All rows of a statement."""

    __slots__ = ("_description", "_rows", "rowcount")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._description = cursor.description
        self._rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        self.rowcount = cursor.rowcount

    def __iter__(self) -> Iterator[Any]:
        if not self._rows:
            return iter(())
        make = _row_class(self._names())
        return iter([make(row) for row in self._rows])

    def all(self) -> list[Any]:
        return list(self)

    def first(self) -> Any:
        return _row_class(self._names())(self._rows[0]) if self._rows else None

    def one(self) -> Any:
        (only,) = self
        return only

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self._rows[0][0]

    def scalars(self) -> Values:
        return Values([row[0] for row in self._rows])

    def mappings(self) -> Values:
        names = self._names()
        return Values([dict(zip(names, row, strict=True)) for row in self._rows])

    def partitions(self, size: int) -> Iterator[list[Any]]:
        return Values(self).partitions(size)

    def _names(self) -> tuple[str, ...]:
        return tuple([column[0] for column in self._description or ()])


@cache
def _lists_of(statement: TextClause) -> tuple[str, ...]:
    """Return the names of the parameters that are lists."""
    return tuple(name for name, bound in statement._bindparams.items() if bound.expanding)


class Savepoint:
    """A savepoint, released at the end and rolled back on any exception."""

    def __init__(self, raw: sqlite3.Connection, name: str) -> None:
        self._raw, self._name = raw, name
        raw.execute(f"SAVEPOINT {name}")

    def rollback(self) -> None:
        self._raw.execute(f"ROLLBACK TO {self._name}")
        self._raw.execute(f"RELEASE {self._name}")

    def __enter__(self) -> "Savepoint":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._raw.execute(f"RELEASE {self._name}")
        else:
            self.rollback()


class ThinConnection:
    """The methods of a SQLAlchemy connection that handlers use."""

    def __init__(self, raw: sqlite3.Connection, *, writes: bool) -> None:
        self._raw = raw
        self._writes = writes

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None) -> ThinResult:
        sql, given = statement.text, parameters or {}
        for name in _lists_of(statement):
            sql, given = _expand(sql, name, dict(given))
        return ThinResult(self._raw.execute(sql, given))

    def exec_driver_sql(self, sql: str, parameters: Any = ()) -> ThinResult:
        if isinstance(parameters, list):
            return ThinResult(self._raw.executemany(sql, parameters))
        return ThinResult(self._raw.execute(sql, parameters))

    @property
    def connection(self) -> "ThinConnection":
        """Return the holder of the driver's connection: this object."""
        return self

    @property
    def driver_connection(self) -> sqlite3.Connection:
        """Return the driver's connection, for readers of very many rows."""
        return self._raw

    def begin_nested(self) -> Savepoint:
        return Savepoint(self._raw, "nested")

    def get_execution_options(self) -> dict[str, bool]:
        return {"popug_writes": self._writes}


def connect(database: Path) -> sqlite3.Connection:
    """Return a connection with the program's settings, except for durability, which this simulation does not test."""
    raw = sqlite3.connect(database, isolation_level=None, cached_statements=512)
    for pragma in PRAGMAS:
        raw.execute(pragma)
    raw.execute("PRAGMA synchronous=OFF")
    return raw


@contextmanager
def transaction(raw: sqlite3.Connection, *, writes: bool) -> Iterator[Any]:
    """Begin one transaction like the program's own."""
    raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield ThinConnection(raw, writes=writes)
    except BaseException:
        raw.execute("ROLLBACK")
        raise
    raw.execute("COMMIT")


def remember_statements() -> None:
    """Let ``text`` parse each statement once; its result is never changed in place."""
    remembered = cache(sqlalchemy.text)
    for name, module in list(sys.modules.items()):
        if name.startswith("popug_cli.") and getattr(module, "text", None) is sqlalchemy.text:
            module.text = remembered  # type: ignore[attr-defined]


def _expand(sql: str, name: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    values: Sequence[Any] = given.pop(name)
    places = ", ".join(f":{name}_{n}" for n in range(len(values)))
    given |= {f"{name}_{n}": value for n, value in enumerate(values)}
    return re.sub(rf":{name}\b", f"({places})" if values else "(SELECT 1 WHERE 0)", sql), given
