"""Let one process do what billing did in the cluster, undisturbed, and compare what billing, analytics and mail have.

Billing's log has the order: the events that it received from identity and tasks, and its own. The process receives the
same events byte for byte, and closes days and corrects entries where billing did. A price is drawn with the seed that
billing's event records. The tables of billing, analytics and mail are compared, without positions, ids that no client
chose, and times of recording. Commands of tasks and identity are not repeated: their events are the input.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from popug_cli import bootstrap
from popug_cli.app.local_backend import LocalBackend
from popug_cli.billing import closing as day_closing
from popug_cli.billing import commands
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Runtime
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CorrectEntry
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.storage.port import Connection
from tests.cluster.chaos.stage import Stage
from tests.simulation.violation import Violation
from tests.support.company import SetClock

SELECT_LOG = (
    "SELECT bus_log.sequence, envelope, origin, origin_position FROM bus_log"
    " LEFT JOIN bus_received ON bus_received.sequence = bus_log.sequence WHERE bus_log.sequence > ?"
    " ORDER BY bus_log.sequence"
)
SELECT_ENTRIES = (
    "SELECT entry_id, event_id, employee_id, kind, amount_cents, business_date, task_id, corrects FROM billing_entries"
    " ORDER BY position"
)
COMPARED = {
    "billing_tasks": "task_id, number, title, fee_cents, reward_cents",
    "billing_accounts": "account_id, kind, username, balance_cents",
    "billing_account_days": "*",
    "billing_days": "business_date, fees_cents, rewards_cents, payouts_cents, paid_count, in_red_count",
    "analytics_people": "*",
    "analytics_balance_changes": "*",
    "analytics_days": "*",
    "analytics_tasks": "*",
    "mail_outbox": "user_id, business_date, kind, amount_cents",
}
Name = tuple[str, str]
Tables = dict[str, list[tuple[Any, ...]]]


class RecordedSeeds(dict[str, str]):
    """The seeds with which billing drew prices, by task."""

    def new_seed(self, purpose: str, subject: str) -> str:
        """Return the recorded seed of a task's price."""
        assert purpose == "price", purpose
        return self[subject]


class OneProcess(LocalBackend):
    """A company in one process that has no consumer of tasks, whose events are the input."""

    @cached_property
    def seeds(self) -> RecordedSeeds:
        """The seeds of draws, which are filled in before the first draw."""
        return RecordedSeeds()

    @cached_property
    def runtime(self) -> Runtime:
        """Return the open home, with the recorded seeds."""
        return replace(super().runtime, draws=self.seeds)

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return the consumers of billing, analytics and mail."""
        return tuple(each for each in bootstrap.consumers() if each.name != "tasks")


def compare(stage: Stage, home: Path) -> None:
    """Repeat in ``home``, a copy of the company before it became a cluster; raise ``Violation`` if the ends differ."""
    clock = SetClock(stage.clock.now())
    expected: Tables = {}
    for service in ("billing", "analytics", "mail"):
        with stage.backend(service) as backend, backend.runtime.database.connection(writes=False) as connection:
            expected |= _tables(connection, service)
    with closing(OneProcess(Home(home), clock=clock, from_file=True)) as process:
        with stage.backend("billing") as backend, backend.runtime.database.connection(writes=False) as connection:
            rows = connection.select(SELECT_LOG, _head(home))
            named = _names(connection)
        _repeat(process, clock, rows, {entry_id: name for name, entry_id in named.items()})
        with process.runtime.database.connection(writes=False) as connection:
            found = {table: rows for service in SERVICES for table, rows in _tables(connection, service).items()}
    for table, wanted in expected.items():
        if wanted != found[table]:
            odd, missing = [list(set(a) - set(b)) for a, b in ((wanted, found[table]), (found[table], wanted))]
            only = f"{len(odd)} rows only in the cluster {odd[:2]}, {len(missing)} only in one process {missing[:2]}"
            raise Violation("ends_like_one_process", f"{table}: {only}")


def _repeat(process: OneProcess, clock: SetClock, rows: Sequence[tuple[Any, ...]], names: Mapping[str, Name]) -> None:
    """Do what the rows of billing's log say; ``names`` are those of the cluster's entries by their ids."""
    events = [json.loads(envelope) for _, envelope, _, _ in rows]
    priced = [event for event in events if event["type"].startswith("popug.billing.task_priced.")]
    process.seeds.update({event["subject"]: event["data"]["draw"]["seed"] for event in priced})
    received: dict[str, list[tuple[int, str]]] = {"identity": [], "tasks": []}
    for (sequence, envelope, origin, position), event in zip(rows, events, strict=True):
        name = event["type"].rpartition(".v")[0]
        if (source := event["source"].rpartition("/")[2]) in received:
            if origin != _last_origin(received):
                _append(process, received)
            received[source].append((position or sequence, envelope))
        elif name in ("popug.billing.day_closed", "popug.billing.entry_corrected"):
            clock.instant = from_rfc3339(event["time"])
            _append(process, received)
            process.catch_up(completely=True)
            with process.runtime.writing(OPERATOR) as context:
                if name == "popug.billing.day_closed":
                    day_closing.close_next(date.fromisoformat(event["data"]["business_date"]), context)
                else:
                    entry_id = _names(context.connection)[names[event["data"]["corrects"]]]
                    commands.correct_entry(CorrectEntry(entry_id=entry_id, reason=event["data"]["reason"]), context)
    _append(process, received)
    process.catch_up(completely=True)


def _last_origin(received: Mapping[str, Sequence[object]]) -> str | None:
    """Return whose events wait to be appended."""
    return next((origin for origin, events in received.items() if events), None)


def _append(process: OneProcess, received: Mapping[str, list[tuple[int, str]]]) -> None:
    """Append the waiting events, which are all of one origin."""
    for origin, events in received.items():
        if events:
            with process.runtime.writing(OPERATOR) as context:
                context.events.append_received(origin, events)
            events.clear()


def _head(home: Path) -> int:
    with (
        closing(LocalBackend(Home(home), from_file=True)) as backend,
        backend.runtime.database.connection(writes=False) as connection,
    ):
        return int(connection.select("SELECT max(sequence) FROM bus_log")[0][0])


def _names(connection: Connection) -> dict[Name, str]:
    """Return the ids of entries that follow from an event of tasks, by their kind and that event."""
    rows = connection.select(SELECT_ENTRIES)
    return {(kind, event_id): entry_id for entry_id, event_id, _, kind, *_ in rows if kind in ("fee", "reward")}


def _tables(connection: Connection, service: str) -> Tables:
    tables = {
        table: sorted(map(tuple, connection.select(f"SELECT {columns} FROM {table}")), key=repr)
        for table, columns in COMPARED.items()
        if table.startswith(f"{service}_")
    }
    if service == "billing":
        names = {entry_id: name for name, entry_id in _names(connection).items()}
        tables["billing_entries"] = sorted(
            ((*row[2:7], names.get(row[0]), names.get(row[7])) for row in connection.select(SELECT_ENTRIES)),
            key=repr,
        )
    return tables
