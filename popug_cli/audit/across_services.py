"""Checks that compare the databases of a cluster's services with each other.

Each takes the contexts of all services, on copies or files of SQLite. The snapshots need not be of one instant: the
``ends`` of the streams are read before any snapshot is opened, and logs only grow, so every publisher's snapshot has
what a stream had received by then. Receivers of prices and payouts are read before billing.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus import stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.log import decode_text
from popug_cli.bus.relay import IS_OWN
from popug_cli.bus.replicator import name_of
from popug_cli.bus.service.coverage import received_logs
from popug_cli.bus.service.history import stored_subscriptions
from popug_cli.messages.company import Check
from popug_cli.storage import cluster_state
from popug_cli.storage.id_index import equal_ids

Contexts = Mapping[str, Context]
SNAPSHOT_ORDER = ("mail", "analytics", "tasks", "billing", "identity")
SELECT_OWN = (
    "SELECT sequence, id, CAST(type AS BLOB), CAST(envelope AS BLOB) FROM bus_log"
    f" WHERE sequence <= ? AND {IS_OWN} ORDER BY sequence"
)
SELECT_OWN_ID = f"SELECT id FROM bus_log WHERE sequence = ? AND {IS_OWN}"
SELECT_RECEIVED = (
    "SELECT origin_position, CAST(envelope AS BLOB) FROM bus_received JOIN bus_log USING (sequence)"
    " WHERE origin = ? AND origin_position <= ? ORDER BY origin_position"
)
SELECT_PAYOUTS = (
    "SELECT entry.employee_id, entry.business_date, entry.amount_cents, log.sequence FROM billing_entries entry"
    f" JOIN bus_log log ON {equal_ids('log.id', 'entry.event_id')} WHERE entry.kind = 'payout'"
)
SELECT_PAYSLIPS = "SELECT user_id, business_date, amount_cents FROM mail_outbox WHERE kind = 'payslip'"
SELECT_PRICES_IN_TASKS = "SELECT task_id, number, fee_cents, reward_cents FROM tasks_tasks WHERE fee_cents IS NOT NULL"
SELECT_PRICES = "SELECT task_id, fee_cents, reward_cents FROM billing_tasks"
SELECT_SET_ASIDE_POSITIONS = (
    "SELECT origin_position FROM bus_set_aside JOIN bus_received USING (sequence) WHERE consumer = ? AND origin = ?"
)


class StreamEnd(NamedTuple):
    """The last event that ``receiver`` has accepted of ``origin``, when the checks began."""

    receiver: str
    origin: str
    last: int
    last_id: str


def stream_ends(context: Context) -> list[StreamEnd]:
    """Return the ends of a service's streams; raise ``InvalidStoredValue`` if one is damaged."""
    streams = stream_store.load_all(context.connection)
    return [StreamEnd(context.service, origin, state.last, state.last_id) for origin, (state, _) in streams.items()]


def examine_across(contexts: Contexts, ends: list[StreamEnd], mail_consumers: tuple[Consumer, ...]) -> list[Check]:
    """Run all checks that compare services."""
    return [
        _result("one_cluster", "all databases belong to one cluster, and know the present logs", _clusters(contexts)),
        _result("received_events_exist", "every stream ends at an event of its publisher", _ends(contexts, ends)),
        _result(
            "received_events_equal",
            "every service has exactly the events of others to which it subscribes, byte for byte",
            _events(contexts, ends),
        ),
        _result("includes_exist", "no service says that it includes more than there is", _includes(contexts)),
        _result("prices_match_billing", "the prices in tasks are those of billing", _prices(contexts)),
        _result(
            "payouts_match_mails",
            "every payout has its payslip, and every payslip its payout",
            _payouts(contexts, mail_consumers),
        ),
    ]


def _result(name: str, statement: str, violations: Iterator[str]) -> Check:
    return check_result(name, statement, list(islice(violations, MAX_SHOWN_VIOLATIONS + 1)))


def _clusters(contexts: Contexts) -> Iterator[str]:
    states = {service: cluster_state.load(context.connection) for service, context in contexts.items()}
    clusters = {state.cluster_id for state in states.values() if state is not None}
    if len(clusters) > 1:
        listed = ", ".join(f"{service} to {state.cluster_id}" for service, state in states.items() if state is not None)
        yield f"the databases belong to different clusters: {listed}"
    for service, context in contexts.items():
        for origin, (state, _) in stream_store.load_all(context.connection).items():
            relay = stream_store.load_relay(contexts[origin].connection)
            if relay is None or relay.log_id != state.log_id:
                yield f"{service} receives the log {state.log_id} of {origin}, whose log is another one now"


def _ends(contexts: Contexts, ends: list[StreamEnd]) -> Iterator[str]:
    for receiver, origin, last, last_id in ends:
        found = contexts[origin].connection.scalar(SELECT_OWN_ID, last) or ""
        if found != last_id:
            yield f"{receiver} has received {last_id} at {last} of {origin}, which has {found or 'no event'} there"


def _events(contexts: Contexts, ends: list[StreamEnd]) -> Iterator[str]:
    for receiver, origin, last, _ in ends:
        names = stored_subscriptions(contexts[receiver], origin)
        received = contexts[receiver].connection.stream(SELECT_RECEIVED, origin, last)
        row = next(received, None)
        for position, event_id, type_, envelope in contexts[origin].connection.stream(SELECT_OWN, last):
            while row is not None and row[0] < position:
                yield f"{receiver} has an event at {row[0]} of {origin} that {origin} lacks"
                row = next(received, None)
            if row is not None and row[0] == position:
                if row[1] != envelope:
                    yield f"{receiver} has another envelope of {event_id} at {position} of {origin}"
                row = next(received, None)
            elif name_of(decode_text(type_)) in names:
                yield f"{receiver} lacks {event_id} at {position} of {origin}"
        if row is not None:
            yield f"{receiver} has an event at {row[0]} of {origin} that {origin} lacks"


def _includes(contexts: Contexts) -> Iterator[str]:
    heads = {service: context.log.last_position() for service, context in contexts.items()}
    for receiver, context in contexts.items():
        for origin, (state, _) in stream_store.load_all(context.connection).items():
            for service, position in state.includes.items():
                if position > (head := heads.get(service, 0)):
                    yield f"{origin} said to {receiver} that it includes {position} of {service}, which ends at {head}"


def _prices(contexts: Contexts) -> Iterator[str]:
    prices = {task: (fee, reward) for task, fee, reward in contexts["billing"].connection.select(SELECT_PRICES)}
    for task, number, fee, reward in contexts["tasks"].connection.select(SELECT_PRICES_IN_TASKS):
        if prices.get(task) != (fee, reward):
            yield f"task #{number}"


def _payouts(contexts: Contexts, consumers: tuple[Consumer, ...]) -> Iterator[str]:
    mail = contexts["mail"]
    consumed = received_logs(mail, "mail", consumers)["billing"].consumed
    set_aside = set(mail.connection.column(SELECT_SET_ASIDE_POSITIONS, "mail", "billing"))
    payslips = {(user, day): cents for user, day, cents in mail.connection.select(SELECT_PAYSLIPS)}
    paid = set()
    for user, day, cents, position in contexts["billing"].connection.select(SELECT_PAYOUTS):
        paid.add((user, day))
        if position <= consumed and position not in set_aside and payslips.get((user, day)) != cents:
            yield f"the payout of {day} to user {user} has no payslip of the same amount"
    for user, day in sorted(payslips.keys() - paid):
        yield f"the payslip of {day} for user {user} has no payout"
