"""Repeat in one process, without kills, what five homes did."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from popug_cli import bootstrap
from popug_cli.bus.catch_up import CatchUpResult
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, CorrectEntry
from popug_cli.messages.envelope import decode
from popug_cli.messages.internal.tasks import EndDay
from popug_cli.messages.principal import ANONYMOUS, Principal
from popug_cli.messages.tasks import ShuffleTasks
from tests.simulation.chance import NamedChance
from tests.simulation.compare import State
from tests.simulation.linked.backends import ServiceBackend
from tests.simulation.linked.compare import PUBLISHERS, module_tables, names_of_entries, published
from tests.simulation.linked.trace import Consumed, Performed, Step
from tests.support.company import SetClock

SELECT_ROWS = "SELECT id, sequence, type, envelope FROM bus_log"
SELECT_PRICES = "SELECT id FROM bus_log WHERE type = 'popug.billing.task_priced.v1' ORDER BY sequence"


class OneProcess(ServiceBackend):
    """A company in one process; the batches of tasks' consumer are given to it by hand."""

    is_waiting = True

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return all consumers but that of tasks."""
        return tuple(consumer for consumer in bootstrap.consumers() if consumer.name != "tasks")

    def catch_up(
        self, *, include_not_due: bool = False, completely: bool = False, refuse_behind: bool = False
    ) -> CatchUpResult:
        """Run the consumers, unless a command of tasks or identity is repeated."""
        if not self.is_waiting:
            return CatchUpResult()
        return super().catch_up(include_not_due=include_not_due, completely=completely)


class Replay:
    """One company that repeats the steps of five."""

    def __init__(self, home: Path, chance: NamedChance, clock: SetClock) -> None:
        self.chance, self.clock = chance, clock
        self.backend = OneProcess(Home(home), clock=clock, randomness=chance, ask_service=_nobody)
        self.backend.recorder = self

    def run(self, steps: Sequence[Step]) -> State:
        """Repeat the steps; return the end state."""
        ((begun,),) = self.rows("SELECT max(sequence) FROM bus_log")
        for step in steps:
            self.clock.instant = step.instant
            if isinstance(step, Consumed):
                self._consume(step.event_ids)
            else:
                self._perform(step)
        self.backend.is_waiting = True
        self.backend.catch_up(completely=True)
        self._consume([event_id for (event_id,) in self.rows(SELECT_PRICES)])
        self.backend.catch_up(completely=True)
        return self._state(begun)

    def _perform(self, step: Performed) -> None:
        backend, message = self.backend, step.message
        if isinstance(message, EndDay):
            message = CloseDay(day=message.day, send_mail=False, confirmed=True)
        backend.is_waiting = step.service in ("billing", "mail") or isinstance(message, CloseDay)
        backend.place = step.place
        if backend.is_waiting:
            backend.catch_up(completely=True)
        if isinstance(message, CorrectEntry):
            names = names_of_entries(self.rows)
            entry_id = next((each for each, name in names.items() if name == step.entry), "none")
            message = CorrectEntry(entry_id=entry_id, reason=message.reason)
        try:
            backend.perform_as(step.actor, message)
        except Unavailable:
            assert isinstance(message, ShuffleTasks), message  # tasks' consumer carries it out later

    def _consume(self, event_ids: Sequence[str]) -> None:
        consumer = bootstrap.consumer_of("tasks")
        with self.backend.runtime.writing(ANONYMOUS) as context:
            rows = {row[0]: row[1:] for row in context.connection.select(SELECT_ROWS)}
            events = [decode(*rows[event_id]) for event_id in event_ids]
            if events:
                consumer.consume(events, context)

    def _state(self, begun: int) -> State:
        state = module_tables(lambda module: self.rows)
        names = names_of_entries(self.rows)
        new = self.rows(f"SELECT envelope FROM bus_log WHERE sequence > {begun}")
        for publisher in PUBLISHERS:
            own = [envelope for (envelope,) in new if f'"source":"/popug/{publisher}"' in envelope]
            state[f"events of {publisher}"] = published(own, names)
        return state

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return rows of the database."""
        with self.backend.runtime.database.connection(writes=False) as connection:
            return connection.select(statement)

    # No kill, no fault, and nothing to remember.

    publishes_newer = False

    def refuses(self, service: str, event: Any) -> bool:
        """Return False."""
        return False

    def begun(self, service: str) -> None:
        """Do nothing."""

    def about_to_commit(self, service: str) -> None:
        """Do nothing."""

    def committed(self, service: str) -> None:
        """Do nothing."""

    def handled(self, backend: ServiceBackend, message: Message[Any], context: Context, start: int) -> None:
        """Do nothing."""

    def delivered(self, backend: ServiceBackend, events: Sequence[Any], context: Context, start: int) -> None:
        """Do nothing."""


def _nobody(service: str, principal: Principal, message: Message[Any]) -> Any:
    raise AssertionError("one process asks no other service")
