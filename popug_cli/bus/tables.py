"""The tables of the bus."""

from sqlalchemy import CheckConstraint, Column, Computed, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from popug_cli.bus.log import FREQUENT_TYPES, IS_RARE
from popug_cli.storage.id_index import id_end

_TYPE, _ID, _SUBJECT = (f"json_extract(envelope, '$.{name}')" for name in ("type", "id", "subject"))
_NUMBER_OF_TYPE = " ".join(f"WHEN '{type_}' THEN {number}" for number, type_ in enumerate(FREQUENT_TYPES, start=1))
_TYPE_OF_NUMBER = " ".join(f"WHEN {number} THEN '{type_}'" for number, type_ in enumerate(FREQUENT_TYPES, start=1))


class LogRow(SQLModel, table=True):
    """An event at its position; the other columns are generated from the envelope.

    Only ``frequent_type`` is stored, so that a scan for a type does not parse envelopes.
    """

    __tablename__ = "bus_log"
    __table_args__ = (
        Index("bus_log_id", text(id_end("id"))),
        Index("bus_log_subject", text(id_end("subject"))),
        Index("bus_log_rare", "subject", "type", sqlite_where=text(IS_RARE)),
        {"sqlite_strict": True},
    )

    sequence: int = Field(primary_key=True)
    envelope: str = Field(sa_column=Column(Text, nullable=False))
    frequent_type: int = Field(
        sa_column=Column(Integer, Computed(f"CASE {_TYPE} {_NUMBER_OF_TYPE} ELSE 0 END", persisted=True))
    )
    type: str = Field(
        sa_column=Column(Text, Computed(f"CASE frequent_type {_TYPE_OF_NUMBER} ELSE {_TYPE} END", persisted=False))
    )
    id: str = Field(sa_column=Column(Text, Computed(_ID, persisted=False)))
    subject: str = Field(sa_column=Column(Text, Computed(_SUBJECT, persisted=False)))
    actor: str = Field(sa_column=Column(Text, Computed("json_extract(envelope, '$.actor')", persisted=False)))
    time: str = Field(sa_column=Column(Text, Computed("json_extract(envelope, '$.time')", persisted=False)))


class LinkRow(SQLModel, table=True):
    """A link of the hash chain; it covers consecutive events of one transaction."""

    __tablename__ = "bus_links"
    __table_args__ = (CheckConstraint("first_sequence <= last_sequence", name="a_run"), {"sqlite_strict": True})

    last_sequence: int = Field(primary_key=True)
    first_sequence: int = Field(unique=True)
    hash: str


class CursorRow(SQLModel, table=True):
    """A consumer's cursor: all its events up to ``position`` are done, parked or dropped."""

    __tablename__ = "bus_cursors"
    __table_args__ = (CheckConstraint("position >= 0", name="not_before_the_log"), {"sqlite_strict": True})

    consumer: str = Field(primary_key=True)
    position: int


class InboxRow(SQLModel, table=True):
    """A range of log positions in which a consumer has done all its events; written in the transaction of the effects.

    Ranges of one consumer neither overlap nor meet; a parked event is in none.
    """

    __tablename__ = "bus_inbox"
    __table_args__ = (
        CheckConstraint("first_sequence <= last_sequence", name="a_range"),
        {"sqlite_strict": True, "sqlite_with_rowid": False},
    )

    consumer: str = Field(primary_key=True)
    first_sequence: int = Field(primary_key=True)
    last_sequence: int


class SetAsideRow(SQLModel, table=True):
    """A parked event: a consumer failed on it, or it waits behind such an event.

    For each consumer and subject, the first is ``retrying`` or ``dead``, and all later ones are ``waiting``. A
    ``dropped`` one is skipped.
    """

    __tablename__ = "bus_set_aside"
    __table_args__ = (
        UniqueConstraint("consumer", "sequence", name="once"),
        CheckConstraint("state IN ('retrying', 'waiting', 'dead', 'dropped')", name="known_state"),
        CheckConstraint("(state = 'retrying') = (due_at IS NOT NULL)", name="retries_are_due"),
        Index("bus_set_aside_key", "consumer", "subject", "sequence"),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )

    id: int = Field(sa_column=Column(Integer, primary_key=True))
    consumer: str
    sequence: int
    subject: str
    state: str
    attempts: int
    due_at: str | None
    error: str
    since: str


class ReplyRow(SQLModel, table=True):
    """The answer to a command with an idempotency key; if the command is repeated, it has no further effect.

    The row has the answer, or the query that returns it until the answer is stored as well. It is normally written in
    the transaction of the effect. ``request_key`` is the idempotency key.
    """

    __tablename__ = "bus_replies"
    __table_args__ = (
        CheckConstraint("answer IS NOT NULL OR query IS NOT NULL", name="an_answer_or_where_to_find_it"),
        CheckConstraint("(query IS NULL) = (query_message IS NULL)", name="a_query_is_of_a_kind"),
        Index("bus_replies_kept_at", "kept_at"),
        {"sqlite_strict": True},
    )

    user_id: str = Field(primary_key=True)
    message: str = Field(primary_key=True)
    request_key: str = Field(primary_key=True)
    digest: str
    kept_at: str
    answer: str | None
    query_message: str | None
    query: str | None


class HookRow(SQLModel, table=True):
    """A hook's cursor: all its events up to ``position`` are done or dead letters.

    ``attempts``, ``due_at`` and ``last_error`` belong to the next event. Until ``lease_until``, a process is running
    it. A hook whose file is missing is deleted ten minutes after ``missing_since``.
    """

    __tablename__ = "bus_hooks"
    __table_args__ = (
        CheckConstraint("position >= 0", name="not_before_the_log"),
        CheckConstraint("attempts >= 0", name="counted"),
        {"sqlite_strict": True},
    )

    hook: str = Field(primary_key=True)
    position: int
    attempts: int
    due_at: str | None
    lease_until: str | None
    last_error: str | None
    last_run_at: str | None
    missing_since: str | None


class HookLetterRow(SQLModel, table=True):
    """A dead letter of a hook; ``queued`` after the operator asked for another attempt."""

    __tablename__ = "bus_hook_letters"
    __table_args__ = (
        CheckConstraint("state IN ('dead', 'queued')", name="known_state"),
        {"sqlite_strict": True},
    )

    hook: str = Field(primary_key=True)
    sequence: int = Field(primary_key=True)
    state: str
    attempts: int
    error: str
    since: str


class ReceivedRow(SQLModel, table=True):
    """Marks an event of the log that another service published: ``origin_position`` is its position in the log there.

    An event without a row is the database's own.
    """

    __tablename__ = "bus_received"
    __table_args__ = (UniqueConstraint("origin", "origin_position", name="once_received"), {"sqlite_strict": True})

    sequence: int = Field(primary_key=True)
    origin: str
    origin_position: int


class StreamRow(SQLModel, table=True):
    """The state of the stream of ``origin``; see ``StreamState`` in ``streams.py``.

    ``includes`` and ``history_change`` are JSON. ``next_offset`` is the offset in the topic of the next record.
    """

    __tablename__ = "bus_streams"
    __table_args__ = (
        CheckConstraint("(last = 0) = (last_id = '')", name="first_has_no_id"),
        {"sqlite_strict": True},
    )

    origin: str = Field(primary_key=True)
    log_id: str
    last: int
    last_id: str
    watermark: int
    includes: str
    includes_watermark: int
    gap_since: str | None
    mangled_count: int
    other_log_count: int
    history_change: str | None
    next_offset: int
    stamped_at: str | None


class SubscriptionRow(SQLModel, table=True):
    """A name of events of ``origin``, such as ``popug.tasks.task_created``, that a service stores in every version."""

    __tablename__ = "bus_subscriptions"
    __table_args__ = ({"sqlite_strict": True},)

    origin: str = Field(primary_key=True)
    name: str = Field(primary_key=True)


class RelayRow(SQLModel, table=True):
    """The single row of a service that shares no database: its name, the id of its log, and how far its relay is.

    The relay has sent all own events up to ``position``, and before it was set back those up to ``reached``.
    ``claimed`` is the head of the log at the newest claim. ``database_id`` is the identity of the database that has
    the log. ``own_offset`` is the offset of the next record of the service's own topic to read back, and ``stranger``,
    in JSON, the first record there that is not of this log.
    """

    __tablename__ = "bus_relay"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(primary_key=True)
    service: str
    log_id: str
    position: int
    claimed: int
    database_id: str = Field(sa_column_kwargs={"server_default": ""})
    reached: int = Field(sa_column_kwargs={"server_default": text("0")})
    own_offset: int = Field(sa_column_kwargs={"server_default": text("0")})
    stranger: str | None
