"""Five linked homes that do a plan, with kills, and the questions that the steps ask of them."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from popug_cli.app import asked_by_services
from popug_cli.app.asked_by_services import perform_for_service
from popug_cli.app.workflows import close_between_services
from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.service.coverage import ReceivedLog, received_logs
from popug_cli.bus.streams import StreamState
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay, CorrectEntry
from popug_cli.messages.bus import RetryDeadLetters
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import ANONYMOUS, Principal
from popug_cli.messages.services import SERVICES
from tests.simulation.chance import NamedChance
from tests.simulation.injected_faults import Crash
from tests.simulation.linked import chaos, versions
from tests.simulation.linked.backends import Kill, ServiceBackend, Uncommitted
from tests.simulation.linked.compare import names_of_entries
from tests.simulation.linked.topic import MemoryTopic
from tests.simulation.linked.trace import Consumed, Performed, Step
from tests.simulation.plan import Operation, Plan
from tests.simulation.violation import Violation, require
from tests.support.company import SetClock

close_between_services.POLL_SECONDS = asked_by_services.POLL_SECONDS = 0.0
BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MAX_WAITS = 60
FOUNDERS = frozenset({"boss", "mia", "carl", "ann", "bob"})  # of all four roles
REPUBLISHED_AFTER = 5


class LinkedWorld:
    """The homes of one company's services, their topics, and what is on its way between them."""

    def __init__(self, plan: Plan, template: Path, root: Path) -> None:
        self.plan = plan
        self.root = root
        shutil.copytree(template, root)
        self.chance = NamedChance(plan.seed)
        self.clock = SetClock(BEGINNING)
        self.kill = Kill()
        self.topics = {name: MemoryTopic(self.clock) for name in SERVICES}
        self.sleeping: list[tuple[str, list[TopicRecord]]] = []
        self.trace: list[Step] = []
        self.commands = self.lives = 0
        self.done: Counter[str] = Counter()
        self.lossy: set[str] = set()
        self.is_disaster = False
        self.poisoned: set[str] = set()
        self.publishes_newer = self.knows_newer = False
        self.interludes: list[Callable[[], None]] = []
        self.waits_of_close = 0
        self.backup: Any = None
        self._uncommitted: dict[str, Uncommitted] = {}
        self._has_committed = False
        self.services = {name: self.open(name, root / name) for name in SERVICES}
        self.begun_with = self.head("identity")
        self.commanding = self.services["identity"]

    def open(self, service: str, home: Path) -> ServiceBackend:
        """Return the backend of a new process of a service."""
        backend = ServiceBackend(
            Home(home),
            warn=self._warned,
            while_waiting=partial(self.while_close_waits, service),
            clock=self.clock,
            randomness=self.chance,
            ask_service=self.ask,
        )
        backend.recorder, backend.service = self, service
        return backend

    def _warned(self, sentence: str) -> None:
        is_behind = self.publishes_newer and not self.knows_newer
        require(is_behind or "not processed yet" not in sentence, "no_fault_of_the_place", sentence)

    # The services' access to the world.

    def begun(self, service: str) -> None:
        """Begin one of the program's write transactions."""
        self._uncommitted[service] = Uncommitted()
        self.kill.transactions -= 1

    def about_to_commit(self, service: str) -> None:
        """Kill the process before the commit, if it is time."""
        if self.kill.is_due("before the commit"):
            raise self.kill.happen()

    def committed(self, service: str) -> None:
        """Remember what the transaction did, then kill the process if it is time."""
        done = self._uncommitted.pop(service)
        self.trace += done.steps
        self._has_committed = self._has_committed or done.is_command
        if self.kill.is_due("after the commit"):
            raise self.kill.happen()

    def refuses(self, service: str, event: Any) -> bool:
        """Return whether a consumer must fail on an event."""
        return service == "analytics" and event.subject in self.poisoned

    def handled(self, backend: ServiceBackend, message: Message[Any], context: Context, start: int) -> None:
        """Note a command that changed something."""
        service = backend.service
        consumed = self.consumed(context, "tasks") if service == "billing" else 0
        step = Performed(
            backend.place, service, self.clock.instant, backend.actor, message, start, consumed, backend.entry
        )
        self._uncommitted[service].steps.append(step)
        self._uncommitted[service].is_command = True

    def delivered(self, backend: ServiceBackend, events: Sequence[Any], context: Context, start: int) -> None:
        """Note a batch of tasks, whose draws depend on its users."""
        if backend.service == "tasks":
            ids = tuple(event.id for event in events if event.data.NAME != "task_priced")
            if ids:
                self._uncommitted["tasks"].steps.append(Consumed(self.clock.instant, ids, start))

    def ask(self, service: str, principal: Principal, message: Message[Any]) -> Any:
        """Perform a part at another service, which first receives everything that may matter to it."""
        if service in ("mail", "analytics"):
            self.settle(service)
        peer = self.services[service]
        peer.place, peer.actor = self.commanding.place, self.commanding.actor
        return perform_for_service(peer, principal, message)

    def while_close_waits(self, service: str) -> None:
        """Let others work, and records flow, while tasks waits for identity, or billing for the end of the day."""
        origin = {"tasks": "identity", "billing": "tasks"}[service]
        self.waits_of_close += 1
        require(self.waits_of_close < MAX_WAITS, "every_wait_ends", "a close waits for the end of its day")
        if self.interludes and service == "billing":
            commanding, has_committed = self.commanding, self._has_committed
            kept = commanding.place, commanding.actor, commanding.entry
            self.interludes.pop()()
            commanding.place, commanding.actor, commanding.entry = kept
            self.commanding, self._has_committed = commanding, has_committed
            return
        state = self.checked_stream(service, origin)
        if state.gap_since or self.waits_of_close > REPUBLISHED_AFTER:
            chaos.republish(self, origin, state.last)
        limit = chaos.LIMITS[self.waits_of_close % len(chaos.LIMITS)]
        chaos.relay(self, origin, limit)
        chaos.replicate(self, service, origin, limit)

    # Commands.

    def perform(
        self, service: str, operation: Operation, actor: Principal, message: Message[Any], entry: str = ""
    ) -> None:
        """Perform a command as a user would, who repeats only what surely was not done."""
        self.commands += 1
        self.done[type(message).__name__] += 1
        self._has_committed = False
        while True:
            backend = self.commanding = self.services[service]
            backend.place, backend.actor, backend.entry = operation.place, actor, entry
            self.waits_of_close = 0
            try:
                backend.perform_as(actor, message)
            except Crash:
                self.restart_killed()
                if not self._has_committed or isinstance(message, CloseDay | SendMail):
                    continue
            except PopugError as refusal:
                require(not isinstance(refusal, IntegrityViolation | Unavailable), "refused_for_a_reason", refusal)
                self.done[refusal.code] += 1
            if isinstance(message, SendMail):  # it has transactions of its own, past the backend
                self.trace.append(Performed(operation.place, service, self.clock.instant, actor, message))
            return

    def until_done(self, work: Callable[[], Any]) -> Any:
        """Repeat work until no kill interrupts it, and return its result."""
        while True:
            try:
                return work()
            except Crash:
                self.restart_killed()

    def restart_killed(self) -> None:
        """Start new processes; only the open files are kept, since opening them is slow."""
        self.services = {name: self._successor(name, old) for name, old in self.services.items()}

    def _successor(self, name: str, old: ServiceBackend) -> ServiceBackend:
        new = self.open(name, old.home.root)
        if "runtime" in vars(old):
            vars(new)["runtime"] = old.runtime
        return new

    def shut(self) -> None:
        """Close all homes."""
        for backend in self.services.values():
            backend.close()

    # Questions.

    def rows(self, service: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return rows of a service's database."""
        with self.services[service].runtime.database.connection(writes=False) as connection:
            return connection.select(statement, *parameters)

    def head(self, service: str) -> int:
        """Return the position of the last event of a service's log."""
        return int(self.rows(service, "SELECT coalesce(max(sequence), 0) FROM bus_log")[0][0])

    def stream(self, service: str, origin: str) -> StreamState:
        """Return the state of a service's stream."""
        with self.services[service].runtime.reading(ANONYMOUS) as context:
            return stream_store.load(context.connection, origin).state

    def checked_stream(self, service: str, origin: str) -> StreamState:
        """Return the state of a service's stream, in which only lost records leave a gap."""
        state = self.stream(service, origin)
        require(state.history_change is None, "no_false_alarm", f"{service} of {origin}: {state}")
        has_reason = state.gap_since is None or origin in self.lossy
        require(has_reason, "gaps_come_from_losses", f"{service} of {origin}: {state}")
        return state

    def next_offset(self, service: str, origin: str) -> int:
        """Return the offset of the next record that a service reads."""
        statement = "SELECT next_offset FROM bus_streams WHERE origin = ?"
        return int(self.rows(service, statement, origin)[0][0])

    def consumed(self, context: Context, origin: str) -> int:
        """Return the position of a log up to which billing has consumed it, in its present transaction."""
        return context.connection.scalar(
            "SELECT max(origin_position) FROM bus_received WHERE origin = ? AND sequence <="
            " (SELECT position FROM bus_cursors WHERE consumer = 'billing')", origin
        ) or 0  # fmt: skip

    def covered(self, service: str, origin: str) -> int:
        """Return the position up to which a service has received and consumed another one's log."""
        return self.received(service)[origin].consumed

    def received(self, service: str) -> dict[str, ReceivedLog]:
        """Return how far a service is with each log that it receives."""
        backend = self.services[service]
        with backend.runtime.reading(ANONYMOUS) as context:
            return received_logs(context, service, backend.consumers)

    def wait(self, service: str, origin: str, position: int) -> None:
        """Let records flow until a service covers a position of another one's log."""
        for turn in range(MAX_WAITS):
            if self.covered(service, origin) >= position:
                return
            state = self.checked_stream(service, origin)
            if state.gap_since or turn >= REPUBLISHED_AFTER:
                chaos.republish(self, origin, state.last)
            chaos.relay(self, origin)
            chaos.replicate(self, service, origin)
            self.until_done(partial(self._catch_up, service))
        state = self.stream(service, origin)
        raise Violation("every_wait_ends", f"{service} covers {self.covered(service, origin)} of {position}: {state}")

    def settle(self, service: str) -> None:
        """Wait until a service covers everything that exists now; it runs the newest program."""
        self.upgrade_receivers()
        for origin in ("identity", "tasks", "billing"):
            if origin in SERVICES[service].subscriptions:
                self.wait(service, origin, self.head(origin))

    def settle_all(self) -> None:
        """Wait until every service covers everything, also what follows from it."""
        while True:
            heads = [self.head(name) for name in SERVICES]
            for service in SERVICES:
                self.until_done(partial(self._catch_up, service))
                self.settle(service)
            if heads == [self.head(name) for name in SERVICES]:
                return

    def _catch_up(self, service: str) -> None:
        self.services[service].catch_up(include_not_due=True)

    # Versions.

    def upgrade_receivers(self) -> None:
        """Let all services run a program that knows the newer version of an event."""
        if not self.knows_newer:
            self.knows_newer = True
            versions.learn_newer()
            self.restart_killed()

    def heal(self) -> None:
        """Let consumers succeed again, and retry what they have set aside."""
        self.poisoned.clear()
        self.until_done(lambda: self.services["analytics"].perform_as(self.admin(), RetryDeadLetters()))

    # Users.

    def people(self, *, active: bool = True) -> list[Principal]:
        """Return the users in the order of their registration."""
        where = "WHERE active = 1" if active else ""
        found = self.rows(
            "identity", f"SELECT username, user_id, role FROM identity_users {where} ORDER BY registered_at, user_id"
        )
        return [Principal(username, user_id, Role(role)) for username, user_id, role in found]

    def admin(self) -> Principal:
        """Return the founder, who is never changed."""
        return next(person for person in self.people() if person.username == "boss")

    def changeable(self) -> list[Principal]:
        """Return the users who may be changed: all but the founders."""
        return [person for person in self.people(active=False) if person.username not in FOUNDERS]

    def with_role(self, *roles: Role) -> list[Principal]:
        """Return the active users of some roles."""
        return [person for person in self.people() if person.role in roles]

    def correction(self, number: int) -> tuple[str, CorrectEntry] | None:
        """Return the correction of some entry, and words for that entry that hold in every run."""
        entries = self.rows("billing", "SELECT entry_id FROM billing_entries WHERE kind <> 'payout' ORDER BY position")
        if not entries:
            return None
        (entry_id,) = entries[number % len(entries)]
        message = CorrectEntry(entry_id=entry_id, reason="the simulation says so")
        return names_of_entries(lambda statement: self.rows("billing", statement))[entry_id], message
