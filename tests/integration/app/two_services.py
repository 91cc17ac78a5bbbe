"""The services tasks and billing, each on a copy of one company's home; events of tasks are copied when a test says so.

Each service runs only its own consumer. All users are in both copies. The records of a topic are left out.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from popug_cli.app import LocalBackend
from popug_cli.app.workflows.close_between_services import close_ended_days
from popug_cli.bootstrap import consumer_of
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.inbox import Consumption, consumption_of
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, ClosedDay
from popug_cli.messages.internal.tasks import EndDay, EndedDay
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.tasks.end_day import end_day_of_service
from tests.support.company import InProcess, SeededChance

Answer = TypeVar("Answer")
SUBSCRIPTIONS = tuple(
    f"popug.tasks.{name}." for name in ("task_created", "task_assigned", "task_completed", "day_ended")
)
EVERYTHING = 10**9


@dataclass
class TwoServices:
    """The two services; ``taken`` is the position in tasks' log up to which billing has its events.

    While billing waits for an event, it gets all events if ``arrives`` is true, else none.
    """

    company: InProcess
    tasks: LocalBackend
    billing: LocalBackend
    taken: int
    arrives: bool = True
    asked: list[EndDay] = field(default_factory=list)
    heads_asked: int = 0
    before_end: Callable[[], None] = lambda: None

    def act(self, username: str, message: Message[Answer], at: str = "tasks") -> Answer:
        backend: LocalBackend = getattr(self, at)
        return backend.perform_as(self.company.people[username], message)

    def replicate(self, limit: int = EVERYTHING) -> None:
        """Copy the next events of tasks that billing consumes into billing's log, at most ``limit``."""
        with self.tasks.runtime.reading(OPERATOR) as context:
            rows = context.connection.select(
                "SELECT sequence, type, envelope FROM bus_log WHERE sequence > ? ORDER BY sequence LIMIT ?",
                self.taken,
                limit,
            )
        events = [(position, envelope) for position, type_, envelope in rows if type_.startswith(SUBSCRIPTIONS)]
        with self.billing.runtime.writing(OPERATOR) as context:
            context.events.append_received("tasks", events)
        self.taken = rows[-1][0] if rows else self.taken

    def end(self, message: EndDay, username: str = "boss") -> EndedDay:
        """Let the service of tasks end a day."""
        self.asked.append(message)
        return end_day_of_service(
            self.tasks, message, self.company.people[username], wait_for_identity=self._wait_for_identity
        )

    def close(self, up_to: date, principal: Principal | None = None, **asked: Any) -> list[ClosedDay]:
        """Close the days up to a date as the service of billing."""
        return close_ended_days(
            self.billing,
            CloseDay(day=up_to, send_mail=False, **asked),
            principal or self.company.people["boss"],
            up_to,
            self.end,
            pause=lambda seconds: self.replicate() if self.arrives else None,
        )

    def rows(self, statement: str, at: str = "billing") -> list[dict[str, Any]]:
        backend: LocalBackend = getattr(self, at)
        with backend.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def has_consumed(self, event_id: str) -> Consumption:
        with self.billing.runtime.reading(OPERATOR) as context:
            return consumption_of(context, "billing", event_id)

    def _wait_for_identity(self) -> None:
        self.heads_asked += 1
        self.before_end()


def two_services(root: Path, *, seed: int = 1, **parameters: Any) -> TwoServices:
    """Return the two services of a new company with two workers."""
    company = InProcess(root / "company", chance=SeededChance(seed), **parameters)
    for name in ("kesha", "gosha"):
        company.hire(name)
    company.backend.close()
    tasks, billing = (_service(company, root / name, consumer_of(name)) for name in ("tasks", "billing"))
    (head,) = company.rows("SELECT max(sequence) AS position FROM bus_log")
    return TwoServices(company, tasks, billing, taken=head["position"])


def _service(company: InProcess, root: Path, consumer: Consumer) -> LocalBackend:
    shutil.copytree(company.root, root)
    backend = LocalBackend(Home(root), clock=company.clock, randomness=company.chance, warn=company.warnings.append)
    backend.consumers = (consumer,)
    return backend
