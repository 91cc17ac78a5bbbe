"""Read the log of events."""

import re
from collections.abc import Iterable, Iterator, Sequence
from string import digits

import msgspec

from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, decode
from popug_cli.messages.upcasters import versions
from popug_cli.storage.id_index import END_OF_ID, equal_ids, id_end
from popug_cli.storage.port import Connection, TextNotUtf8Error

StoredEvent = tuple[int, str, str]
READ_ROWS = 1_000
_LIKE_WILDCARD = re.compile("[!%_]")
ENVELOPE = "CAST(bus_log.envelope AS BLOB)"  # bytes, so that an envelope that is not UTF-8 can be read
# The types whose events grow in number with the tasks and ledger entries. The column frequent_type has the place of a
# type in this list, from 1 on, and 0 for all other types. The index bus_log_rare covers the events of those. A
# statement can use it only if it repeats the condition of the index, IS_RARE.
FREQUENT_TYPES = (
    "popug.billing.entry_posted.v1",
    "popug.tasks.task_assigned.v1",
    "popug.billing.task_priced.v1",
    "popug.tasks.task_created.v2",
    "popug.tasks.task_completed.v1",
)
IS_RARE = "frequent_type = 0"
# The condition that a type without the number of its version is one of a list. The frequent types are known versions.
OF_PREFIX = f"{IS_RARE} AND rtrim(type, '{digits}') IN"

SELECT_NEWEST_LINK = "SELECT last_sequence, hash FROM bus_links ORDER BY last_sequence DESC LIMIT 1"
SELECT_LINK = "SELECT last_sequence, hash FROM bus_links WHERE last_sequence = ?"


class Log:
    """The events as a transaction sees them; a ``StoredEvent`` is (position, type, envelope).

    An event is known if its type is in ``messages/`` and its envelope fits the schema; ``decode_known`` skips others.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last_position(self) -> int:
        """Return the position of the last event, or 0."""
        return self._connection.scalar("SELECT max(sequence) FROM bus_log") or 0

    def head_hash(self) -> str | None:
        """Return the hash of the chain's last link, or None."""
        link_hash = self._connection.scalar("SELECT hash FROM bus_links ORDER BY last_sequence DESC LIMIT 1")
        return str(link_hash) if link_hash else None

    def after(
        self, position: int, types: Sequence[str], limit: int, *, prefixes: Sequence[str] = ()
    ) -> list[StoredEvent]:
        """Return the next events of some types after a position, at most ``limit``, in log order.

        Events of ``prefixes``, which lack the number of the version, are returned in any version.
        """
        where = f"sequence > ? AND {type_condition(types, prefixes)} ORDER BY sequence LIMIT ?"
        return self._rows(where, (position, *types, *prefixes, limit))

    def contains(self, types: Sequence[str], *, prefixes: Sequence[str], after: int, up_to: int) -> bool:
        """Return whether there is an event of some types or prefixes after ``after`` and up to ``up_to``."""
        where = f"sequence > ? AND sequence <= ? AND {type_condition(types, prefixes)} LIMIT 1"
        return bool(self._rows(where, (after, up_to, *types, *prefixes)))

    def unknown_versions_after(
        self, position: int, types: Sequence[str], prefixes: Sequence[str]
    ) -> list[tuple[int, str]]:
        """Return the positions and types of the events after a position that have a prefix, but none of ``types``."""
        statement = (
            f"SELECT sequence, CAST(type AS BLOB) FROM bus_log WHERE sequence > ? AND {OF_PREFIX}"
            f" ({_placeholders(prefixes)}) AND type NOT IN ({_placeholders(types)}) ORDER BY sequence"
        )
        rows = self._connection.select(statement, position, *prefixes, *types)
        return [(sequence, decode_text(type_)) for sequence, type_ in rows]

    def types_after(self, position: int, limit: int) -> list[tuple[int, str]]:
        """Return the positions and types of the next events of any type, at most ``limit``."""
        statement = "SELECT sequence, CAST(type AS BLOB) FROM bus_log WHERE sequence > ? ORDER BY sequence LIMIT ?"
        rows = self._connection.select(statement, position, limit)
        return [(sequence, decode_text(type_)) for sequence, type_ in rows]

    def row_at(self, position: int) -> StoredEvent:
        """Return the event at a position; raise ``InvalidStoredValue`` if the log has a hole there."""
        rows = self._rows("sequence = ?", (position,))
        if not rows:
            raise InvalidStoredValue(f"the log has a hole at {position}")
        return rows[0]

    def first_from(self, position: int) -> StoredEvent | None:
        """Return the first event at or after a position, or None."""
        return next(iter(self._rows("sequence >= ? ORDER BY sequence LIMIT 1", (position,))), None)

    def by_id(self, event_id: str) -> Delivered[Event] | None:
        """Return the event with that id, or None if it is missing or not known."""
        return next(self.decode_known(self._rows(equal_ids("id", "?"), (event_id, event_id))), None)

    def by_ids(self, event_ids: Sequence[str]) -> dict[str, Delivered[Event]]:
        """Return the known events with these ids, by id; at most as many ids as SQLite allows parameters (32,766)."""
        if not event_ids:
            return {}
        placeholders = ",".join("?" * len(event_ids))
        rows = self._rows(f"{id_end('id')} IN ({placeholders})", tuple(event_id[END_OF_ID] for event_id in event_ids))
        wanted = set(event_ids)
        return {event.id: event for event in self.decode_known(rows) if event.id in wanted}

    def by_subject(self, subject: str, *kinds: type[Event], task_id: str | None = None) -> list[Delivered[Event]]:
        """Return the known events of a subject in log order; only those of ``kinds``, if any are given.

        With ``task_id``, return only those whose data has this ``task_id``.
        """
        types = [version.TYPE for kind in kinds for version in versions(kind)]
        parameters: tuple[str, ...] = (subject, subject)
        where, order = equal_ids("subject", "?"), "sequence"
        if types and not set(types).intersection(FREQUENT_TYPES):
            where, parameters = f"subject = ? AND {IS_RARE}", (subject,)
            order = "+sequence"  # keeps SQLite from reading all events of the subject in log order
        if types:
            where += f" AND type IN ({','.join('?' * len(types))})"
            parameters = (*parameters, *types)
        if task_id is not None:
            where += " AND envelope LIKE ? ESCAPE '!'"
            encoded_id = msgspec.json.encode(task_id).decode()
            escaped_id = _LIKE_WILDCARD.sub(r"!\g<0>", encoded_id)
            parameters = (*parameters, f"%{escaped_id}%")
        events = self.decode_known(self._rows(f"{where} ORDER BY {order}", parameters))
        return [event for event in events if task_id is None or getattr(event.data, "task_id", None) == task_id]

    def between(self, first: int, last: int, *kinds: type[Event]) -> Iterator[Delivered[Event]]:
        """Yield the known events from ``first`` to ``last``, both included; only those of ``kinds``, if any are given.

        Read a thousand rows at a time.
        """
        while first <= last:
            rows = self._rows(f"sequence BETWEEN ? AND ? ORDER BY sequence LIMIT {READ_ROWS}", (first, last))
            if not rows:
                return
            yield from self.decode_known(rows, kinds)
            first = rows[-1][0] + 1

    def by_type(self, kind: type[Event]) -> Iterator[Delivered[Event]]:
        """Yield the known events of one kind, in all its versions; read a thousand rows at a time."""
        types = [version.TYPE for version in versions(kind)]
        position = 0
        while rows := self.after(position, types, READ_ROWS):
            yield from self.decode_known(rows)
            position = rows[-1][0]

    def _rows(self, where: str, parameters: tuple[object, ...]) -> list[StoredEvent]:
        try:
            statement = f"SELECT sequence, coalesce(type, ''), coalesce(envelope, '') FROM bus_log WHERE {where}"
            return self._connection.select(statement, *parameters)
        except TextNotUtf8Error:
            statement = f"SELECT sequence, CAST(type AS BLOB), {ENVELOPE} FROM bus_log WHERE {where}"
            rows = self._connection.select(statement, *parameters)
            return [(sequence, decode_text(type_), decode_text(envelope)) for sequence, type_, envelope in rows]

    def decode_known(
        self, rows: Iterable[StoredEvent], kinds: tuple[type[Event], ...] = ()
    ) -> Iterator[Delivered[Event]]:
        """Yield the decoded events of rows; skip unknown types, other kinds, and events that do not fit the schema."""
        for row in rows:
            try:
                delivered = decode(*row)
            except msgspec.MsgspecError:
                continue
            if not kinds or isinstance(delivered.data, kinds):
                yield delivered


def type_condition(types: Sequence[str], prefixes: Sequence[str]) -> str:
    """Return the condition that an event has one of the types, or one of the prefixes in any version."""
    known = f"type IN ({_placeholders(types)})"
    return f"({known} OR {OF_PREFIX} ({_placeholders(prefixes)}))" if prefixes else known


def _placeholders(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def decode_text(raw: bytes | None) -> str:
    """Decode text that SQLite returned as bytes, None as an empty text; bytes that are not UTF-8 become escapes."""
    return (raw or b"").decode(errors="backslashreplace")
