"""The state of the log and of each consumer, and problems in the log and in the cursors."""

from collections import Counter
from collections.abc import Iterator, Sequence

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import cursor_positions, unknown_versions
from popug_cli.bus.log import IS_RARE, decode_text, type_condition
from popug_cli.bus.publisher import MAX_POSITION
from popug_cli.bus.unlinked_events import BEFORE_FIRST_POSITION, first_sentences, problems_of_unlinked
from popug_cli.kernel.text import counted
from popug_cli.messages.base import EVENTS
from popug_cli.messages.bus import BusStatus, ConsumerStatus, UnknownType

# The positions up to a consumer's cursor that its inbox does not cover.
SELECT_INBOX_GAPS = """
    SELECT lag(last_sequence + 1, 1, ?) OVER (ORDER BY first_sequence) AS first_sequence,
        first_sequence - 1 AS last_sequence
    FROM bus_inbox WHERE consumer = ?
    UNION ALL
    SELECT coalesce((SELECT max(last_sequence) + 1 FROM bus_inbox WHERE consumer = cursor.consumer), ?), position
    FROM bus_cursors cursor WHERE consumer = ?
"""


def bus_status(context: Context, consumers: Sequence[Consumer]) -> BusStatus:
    """Return the state of the log and of every consumer."""
    positions = cursor_positions(context)
    return BusStatus(
        last_sequence=context.position,
        consumers=consumer_statuses(context, consumers),
        unknown=_unknown_types(context),
        problems=[
            *log_problems(context),
            *cursor_problems(context, positions),
            *unknown_version_problems(context, consumers),
            *skipped_problems(context, consumers),
            *first_sentences(problems_of_unlinked(context)),
        ],
    )


def consumer_statuses(
    context: Context, consumers: Sequence[Consumer], *, within: int = MAX_POSITION
) -> list[ConsumerStatus]:
    """Return the state of every consumer; ``lag`` counts the events ``within`` so many positions after its cursor."""
    positions = cursor_positions(context)
    parked = context.connection.select(
        "SELECT consumer, state, count(*) AS number FROM bus_set_aside GROUP BY consumer, state"
    )
    states = Counter({(consumer, state): number for consumer, state, number in parked})
    return [
        _consumer_status(context, consumer, positions.get(consumer.name, 0), states, within) for consumer in consumers
    ]


def log_problems(context: Context) -> Iterator[str]:
    """Yield a sentence on events before position 1, which no consumer reads, and one on the holes in the log."""
    [(early_count, lowest)] = context.connection.select(
        "SELECT count(*), min(sequence) FROM bus_log WHERE sequence < 1"
    )
    if early_count:
        early_events = counted(early_count, "event lies", "events lie")
        yield f"{early_events} before the beginning of the log, the first at {lowest}; no consumer reads there."
    # without a condition, SQLite counts the entries of an index
    count = context.connection.scalar("SELECT count(*) FROM bus_log") - early_count
    if count == max(context.position, 0):
        return
    statement = (
        "SELECT coalesce(max(earlier.sequence), 0) + 1 FROM bus_log earlier"
        " WHERE earlier.sequence > 0 AND earlier.sequence < :first"
        " AND NOT EXISTS (SELECT 1 FROM bus_log later WHERE later.sequence = earlier.sequence + 1)"
    )
    first = context.connection.scalar("SELECT min(sequence) FROM bus_log WHERE sequence > 0")
    hole = 1 if first != 1 else context.connection.scalar(statement, first=context.position)
    positions = f"of its {counted(context.position, 'position')}"
    missing = counted(context.position - count, f"{positions} is", f"{positions} are")
    yield f"The log has a hole at {hole}: {missing} missing."


def cursor_problems(context: Context, positions: dict[str, int]) -> Iterator[str]:
    """Yield a sentence for each cursor beyond the end of the log."""
    for consumer, position in positions.items():
        if position > context.position:
            yield f"The cursor of {consumer} is at {position}, beyond the end of the log at {context.position}."


def unknown_version_problems(context: Context, consumers: Sequence[Consumer]) -> Iterator[str]:
    """Yield a sentence for each consumer that stops at an event of a version that this program does not know."""
    for error in unknown_versions(context, consumers):
        yield f"{error.message} {error.hint}"


def skipped_problems(context: Context, consumers: Sequence[Consumer]) -> Iterator[str]:
    """Yield a sentence for each consumer whose cursor has passed events that are not done, parked or dropped."""
    for consumer in consumers:
        types = ",".join("?" * len(consumer.types))
        skipped_in_gap = (
            "FROM bus_log log WHERE log.sequence BETWEEN gaps.first_sequence AND gaps.last_sequence"
            " AND log.sequence <= (SELECT position FROM bus_cursors WHERE consumer = ?)"
            f" AND log.type IN ({types}) AND NOT EXISTS (SELECT 1 FROM bus_set_aside parked"
            " WHERE parked.consumer = ? AND parked.sequence = log.sequence)"
        )
        of_consumer = (consumer.name, *consumer.types, consumer.name)
        # Subqueries, since PostgreSQL cannot estimate the size of a gap and would read the whole log for a join.
        [(count, first)] = context.connection.select(
            f"WITH gaps AS ({SELECT_INBOX_GAPS}) SELECT sum((SELECT count(*) {skipped_in_gap})),"
            f" min((SELECT min(log.sequence) {skipped_in_gap})) FROM gaps WHERE first_sequence <= last_sequence",
            *(BEFORE_FIRST_POSITION, consumer.name, BEFORE_FIRST_POSITION, consumer.name),
            *(*of_consumer, *of_consumer),
        )
        if count:
            skipped = counted(count, "event")
            yield f"{consumer.name} has skipped {skipped} without processing, the first at {first}."


def states_of(context: Context, sequence: int) -> dict[str, str]:
    """Return the state of an event by consumer: ``done``, or the state that a parked or dropped event has.

    A consumer that still has to process the event is missing. One that does not subscribe to it may be listed as done.
    """
    statement = (
        "SELECT consumer, 'done' AS state FROM bus_inbox WHERE :sequence BETWEEN first_sequence AND last_sequence"
        " UNION ALL SELECT consumer, state FROM bus_set_aside WHERE sequence = :sequence"
    )
    rows = context.connection.select(statement, sequence=sequence)
    return dict(rows)


def _consumer_status(
    context: Context, consumer: Consumer, position: int, states: "Counter[tuple[str, str]]", within: int
) -> ConsumerStatus:
    is_subscribed = type_condition(consumer.types, consumer.prefixes)
    statement = f"SELECT count(*) FROM bus_log WHERE sequence > ? AND sequence <= ? AND {is_subscribed}"
    up_to = min(position + within, MAX_POSITION)
    lag = context.connection.scalar(statement, position, up_to, *consumer.types, *consumer.prefixes)
    return ConsumerStatus(
        consumer=consumer.name,
        position=context.position if lag == 0 and position <= context.position <= up_to else position,
        lag=lag,
        dead=states[consumer.name, "dead"],
        waiting=states[consumer.name, "waiting"] + states[consumer.name, "retrying"],
    )


def _unknown_types(context: Context) -> list[UnknownType]:
    placeholders = ",".join("?" * len(EVENTS))
    statement = (
        "SELECT CAST(type AS BLOB), count(*) FROM bus_log"
        f" WHERE {IS_RARE} AND (type IS NULL OR type NOT IN ({placeholders})) GROUP BY type ORDER BY type"
    )
    rows = context.connection.select(statement, *EVENTS)
    return [UnknownType(decode_text(type_) or "none", count) for type_, count in rows]
