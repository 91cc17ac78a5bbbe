"""Reading the log."""

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import Connection

from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, decode
from popug_cli.messages.upcasters import versions
from popug_cli.storage.engine import raw_connection, scalar

StoredEvent = tuple[int, str, str]
READ_ROWS = 1_000
ENVELOPE = "CAST(bus_log.envelope AS BLOB)"  # to be made readable: bytes that are no text are the event's fault


class Log:
    """The events as a transaction sees them; a row is (sequence, type, envelope)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last_position(self) -> int:
        """The position of the last event; 0 where there is none."""
        return scalar(self._connection, "SELECT max(sequence) FROM bus_log") or 0

    def head_hash(self) -> str | None:
        """The hash of the last link of the chain."""
        link_hash = scalar(self._connection, "SELECT hash FROM bus_links ORDER BY last_sequence DESC LIMIT 1")
        return str(link_hash) if link_hash else None

    def after(self, position: int, types: Sequence[str], limit: int) -> list[StoredEvent]:
        """The next events of some types after a position, at most ``limit``."""
        placeholders = ",".join("?" * len(types))
        return self._rows(
            f"sequence > ? AND type IN ({placeholders}) ORDER BY sequence LIMIT ?", (position, *types, limit)
        )

    def contains(self, types: Sequence[str], *, after: int, up_to: int) -> bool:
        """Whether there is an event of some types after a position and up to another."""
        where = f"sequence > ? AND sequence <= ? AND type IN ({','.join('?' * len(types))}) LIMIT 1"
        return bool(self._rows(where, (after, up_to, *types)))

    def types_after(self, position: int, limit: int) -> list[tuple[int, str]]:
        """The positions and types of the next events, at most ``limit``, whatever their types are."""
        statement = "SELECT sequence, CAST(type AS BLOB) FROM bus_log WHERE sequence > ? ORDER BY sequence LIMIT ?"
        rows = raw_connection(self._connection).execute(statement, (position, limit))
        return [(sequence, decode_text(type_)) for sequence, type_ in rows]

    def row_at(self, sequence: int) -> StoredEvent:
        """The event at a position; raises ``LookupError`` where the log has a hole."""
        rows = self._rows("sequence = ?", (sequence,))
        if not rows:
            raise LookupError(f"the log has a hole at {sequence}")
        return rows[0]

    def first_from(self, position: int) -> StoredEvent | None:
        """The first event from a position on."""
        return next(iter(self._rows("sequence >= ? ORDER BY sequence LIMIT 1", (position,))), None)

    def by_id(self, event_id: str) -> Delivered[Event] | None:
        """The event of that id, if it is there and of a known shape."""
        return next(self.decode_known(self._rows("id = ?", (event_id,))), None)

    def by_ids(self, event_ids: Sequence[str]) -> dict[str, Delivered[Event]]:
        """Those of the events (at most a consumer's batch) that are there and of a known shape, by id."""
        rows = self._rows(f"id IN ({','.join('?' * len(event_ids))})", tuple(event_ids))
        return {event.id: event for event in self.decode_known(rows)}

    def by_subject(self, subject: str, *kinds: type[Event]) -> list[Delivered[Event]]:
        """Every event about one subject in the order of the log, limited to some kinds if any are named.

        Events of unknown types and events that do not fit their schema are left out.
        """
        return list(self.decode_known(self._rows("subject = ? ORDER BY sequence", (subject,)), kinds))

    def between(self, first: int, last: int, *kinds: type[Event]) -> Iterator[Delivered[Event]]:
        """The events from one position to another, both inclusive, in memory a thousand at a time."""
        while first <= last:
            rows = self._rows(f"sequence BETWEEN ? AND ? ORDER BY sequence LIMIT {READ_ROWS}", (first, last))
            if not rows:
                return
            yield from self.decode_known(rows, kinds)
            first = rows[-1][0] + 1

    def by_type(self, kind: type[Event]) -> Iterator[Delivered[Event]]:
        """Every event of one kind, in all its versions, in memory a thousand at a time."""
        types = [shape.TYPE for shape in versions(kind)]
        position = 0
        while rows := self.after(position, types, READ_ROWS):
            yield from self.decode_known(rows)
            position = rows[-1][0]

    def _rows(self, where: str, parameters: tuple[object, ...]) -> list[StoredEvent]:
        driver = raw_connection(self._connection)
        try:
            statement = f"SELECT sequence, ifnull(type, ''), ifnull(envelope, '') FROM bus_log WHERE {where}"
            return driver.execute(statement, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):  # it is SQLite's; the driver's own is that something is no text
                raise
            statement = f"SELECT sequence, CAST(type AS BLOB), {ENVELOPE} FROM bus_log WHERE {where}"
            rows = driver.execute(statement, parameters).fetchall()
            return [(sequence, decode_text(type_), decode_text(envelope)) for sequence, type_, envelope in rows]

    def decode_known(
        self, rows: Sequence[StoredEvent], kinds: tuple[type[Event], ...] = ()
    ) -> Iterator[Delivered[Event]]:
        """The events of rows, without those of unknown types and those that do not fit their schema."""
        for row in rows:
            try:
                delivered = decode(*row)
            except msgspec.MsgspecError:
                continue
            if not kinds or isinstance(delivered.data, kinds):
                yield delivered


def decode_text(raw: bytes | None) -> str:
    """An envelope, or what SQLite computed from one, as text; half of a surrogate pair, say, is no UTF-8."""
    return (raw or b"").decode(errors="backslashreplace")
