"""A company that runs a plan and is checked after every step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from popug_cli.app import LocalBackend
from popug_cli.bootstrap import consumer_of
from popug_cli.bus import consumers as bus_consumers
from popug_cli.bus.catch_up import CatchUpResult
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context, Runtime
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.randomness import DrawPurpose
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import RetryDeadLetters
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import AddTask, CompleteTask
from popug_cli.storage.port import Connection, Database
from tests.simulation import patches, place
from tests.simulation.chance import NamedChance
from tests.simulation.injected_faults import Crash, CutShort, Disturbances
from tests.simulation.invariants import compare_tables, dropped, examine, watch
from tests.simulation.model import MANAGEMENT, Model, Person
from tests.simulation.plan import COMMANDS, Operation, Plan
from tests.simulation.steps import CONSUMERS, STEPS
from tests.simulation.violation import Violation, require
from tests.support.company import SetClock

FOUNDERS = 4
BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EXAMINED_EVERY = 500
COMPARED_EVERY = 40
CATCHING_UP_EVERY = 10
HEALING_ROUNDS = 20


class Did(NamedTuple):
    """A command of the world, for the undisturbed twin to repeat."""

    place: int
    at: datetime
    actor: str
    message: Message[Any]


class WorldDatabase(Database):
    """A company's database whose write transactions meet the world's faults."""

    def __init__(self, undisturbed: Database, world: "World") -> None:
        self.undisturbed = undisturbed
        self.is_shared = undisturbed.is_shared
        self._world = world

    def connection(self, *, writes: bool) -> AbstractContextManager[Connection]:
        return self.undisturbed.connection(writes=writes)

    @contextmanager
    def write_transaction(self) -> Iterator[tuple[Connection, ExitStack]]:
        with self._world.writing(self.undisturbed) as begun:
            yield begun

    def ignoring_stop_requests(self) -> Database:
        return self

    def close(self) -> None:
        self.undisturbed.close()


class WatchedLocal(LocalBackend):
    """The backend, stopped before the consumers run if the world says so."""

    world: "World"

    @cached_property
    def runtime(self) -> Runtime:
        """Return the open company, whose transactions and draws are the world's."""
        runtime = super().runtime
        runtime.database.close()
        database = WorldDatabase(place.open_database(self.home), self.world)
        return replace(runtime, database=database, draws=self.world)

    def write(self, message: Message[Any], principal: Principal, work: Callable[[Context], Any]) -> Any:
        """Run the write of a command, and record that it was reached."""

        def own_work(context: Context) -> Any:
            if isinstance(message, AddTask | CompleteTask):  # their workflows call the module's functions themselves
                result = self.world.handle(lambda _, context: work(context), message, context)
            else:
                result = work(context)
            self.world.handled = True
            return result

        return super().write(message, principal, own_work)

    def catch_up(self, *, include_not_due: bool = False, completely: bool = False) -> CatchUpResult:
        if self.world.cut_short:
            self.world.cut_short = False
            raise CutShort
        return super().catch_up(include_not_due=include_not_due, completely=completely)


class World:
    """One company on a copy of a template home."""

    def __init__(self, plan: Plan, template: Path, root: Path) -> None:
        self.plan = plan
        self.root = root
        place.copy(template, root)
        self.chance = NamedChance(plan.seed)
        self.clock = SetClock(BEGINNING)
        self.wrong = Disturbances(plan.wild)
        self.model = Model()
        self.did: list[Did] = []
        self.place_in_plan = -1
        self.steps = 0
        self.cut_short = False
        self.handled = self.committed = False
        self.given_up: set[tuple[str, int]] = set()
        self._delivering: list[tuple[str, int, str]] = []
        self._done: dict[str, set[int]] = {name: set() for name in CONSUMERS}
        self._last: dict[tuple[str, str], int] = {}
        self._consumers = {name: self._wrapped(patches.real_consumer_of(name)) for name in CONSUMERS}
        self.open()
        self.follow_log()
        self._remember_what_is_done()

    # The program's access to the world.

    @contextmanager
    def writing(self, database: Database) -> Iterator[tuple[Connection, ExitStack]]:
        """Begin one of the program's write transactions, with the points at which it may crash."""
        self.handled = False
        self._delivering.clear()
        bus_consumers.BATCH_EVENTS = self.wrong.batch_size
        self.wrong.next_transaction()
        with database.write_transaction() as (connection, on_rollback):
            yield connection, on_rollback
            if self.wrong.is_time_to_crash("before the commit"):
                raise self._crash()
        self._committed()

    def consumer_of(self, module: str) -> Consumer:
        """Return a module's subscription, wrapped."""
        return self._consumers[module]

    def handle(self, handler: Callable[[Any, Any], Any], message: Any, context: Any) -> Any:
        """Let the ids that a command's handler makes depend on the command."""
        with self.chance.purpose("command", self.place_in_plan):
            return handler(message, context)

    def new_seed(self, purpose: DrawPurpose, subject: str) -> str:
        """Return the seed of a draw by its name; a second price of a task gets another one."""
        return self.chance.new_seed(purpose, subject, self._price_times(subject) if purpose == "price" else 0)

    def _price_times(self, task_id: str) -> int:
        """Return how often a task was priced, uncommitted prices included."""
        priced = "SELECT count(*) FROM bus_log WHERE subject = ? AND type = 'popug.billing.task_priced.v1'"
        return int(self.rows(priced, (task_id,))[0][0])

    def begun(self) -> AbstractContextManager[tuple[Connection, ExitStack]]:
        """Begin a write transaction that no fault disturbs."""
        database = self.backend.runtime.database
        assert isinstance(database, WorldDatabase)
        return database.undisturbed.write_transaction()

    def _committed(self) -> None:
        self.committed = self.committed or self.handled
        for consumer, sequence, subject in self._delivering:
            done, key = self._done[consumer], (consumer, subject)
            require(sequence not in done, "effects_happen_once", f"{consumer} took {sequence} again")
            require((consumer, sequence) not in self.given_up, "dropped_for_good", f"{consumer} took {sequence}")
            before = self._last.get(key, 0)
            require(before < sequence, "order_per_key", f"{consumer} took {sequence} of {subject} after {before}")
            done.add(sequence)
            self._last[key] = sequence
        if self.wrong.is_time_to_crash("after the commit"):
            raise self._crash()

    def _wrapped(self, consumer: Consumer) -> Consumer:
        return replace(consumer, consume=partial(self._consume, consumer))

    def _consume(self, consumer: Consumer, events: Sequence[Any], context: Any) -> None:
        self.wrong.refuse(consumer.name, events)
        for part in self.wrong.deliveries(consumer.name, events):
            consumer.consume(part, context)
        self._delivering.extend((consumer.name, event.sequence, event.subject) for event in events)
        if self.wrong.is_time_to_crash("before the cursor"):
            raise self._crash()

    def _crash(self) -> Crash:
        self.wrong.crash_where = ""
        return Crash()

    # Steps.

    def step(self, operation: Operation) -> None:
        """Do one operation, then check the invariants."""
        self.steps += 1
        self.place_in_plan = operation.place
        STEPS[operation.kind](self, operation)
        if operation.kind in COMMANDS or self.model.sequence != self.head():
            watch(self)
        if self.steps % COMPARED_EVERY == 0:
            compare_tables(self)
        if self.steps % EXAMINED_EVERY == 0 and self.steps < len(self.plan.operations):
            examine(self)

    def repeat(self, did: Did) -> None:
        """Repeat the disturbed twin's operation at the same instant; every tenth command at least catches up."""
        self.decide()
        self.clock.instant = did.at
        self.place_in_plan = did.place
        self.steps += 1
        in_haste = self.plan.cut_short > 0.5 and self.steps % CATCHING_UP_EVERY
        self.cut_short = bool(in_haste) and not isinstance(did.message, CloseDay)
        self._perform(did.actor, did.message)
        self.cut_short = False
        self.follow_log()

    def finish(self) -> None:
        """Remove all faults, catch up, and check everything."""
        self.heal_everything()
        watch(self)
        compare_tables(self)
        lost = self.model.pending.keys() - dropped(self)
        require(not lost, "nothing_is_lost", lost)
        examine(self)

    def close(self) -> None:
        """Close the home."""
        self.shut()
        place.remove(self.root)

    def heal_everything(self) -> None:
        """Remove every fault and let every waiting event be consumed."""
        self.wrong.heal()
        self.cut_short = False
        for _ in range(HEALING_ROUNDS):
            self.until_done(lambda: self.backend.catch_up(include_not_due=True))
            if not self.rows("SELECT 1 FROM bus_set_aside WHERE state <> 'dropped' LIMIT 1"):
                return
            self.until_done(lambda: self.backend.perform_as(self.boss(), RetryDeadLetters()))
        left = self.rows("SELECT consumer, sequence, state, error FROM bus_set_aside WHERE state <> 'dropped' LIMIT 3")
        raise Violation("everything_heals", str(left))

    # Performing.

    def command(self, operation: Operation, actor: Principal, message: Message[Any]) -> None:
        """Perform as a user would, who retries only what surely was not done."""
        self.decide()
        composed = isinstance(message, CloseDay)
        self.cut_short = not composed and operation.c % 1000 < self.plan.cut_short * 1000
        self.did.append(Did(operation.place, self.clock.instant, actor.username, message))
        self._perform(actor.username, message)
        self.cut_short = False

    def _perform(self, actor: str, message: Message[Any]) -> None:
        self.committed = False
        who = self._named(actor)
        while True:
            try:
                self.backend.perform_as(who, message)
            except CutShort:
                pass
            except Crash:
                self._restart_after_crash()
                if not self.committed or isinstance(message, CloseDay):
                    continue
            except PopugError as refusal:
                require(not isinstance(refusal, IntegrityViolation | Unavailable), "refused_for_a_reason", refusal)
                self._judge_refusal(who, message)
                return
            require(self.committed, "acknowledged_is_committed", message)
            return

    def _judge_refusal(self, who: Principal, message: Message[Any]) -> None:
        if isinstance(message, CompleteTask) and not self.plan.wild and message.number <= len(self.model.numbers):
            self.follow_log()
            task = self.model.numbers[message.number - 1]
            mine = not task.completed and task.assignee_id == who.user_id
            require(not mine, "the_holder_may_complete", f"#{task.number}")

    def until_done(self, work: Callable[[], object]) -> None:
        """Repeat work until no crash interrupts it."""
        while True:
            try:
                work()
            except Crash:
                self._restart_after_crash()
            else:
                return

    def decide(self) -> None:
        """Let tasks make its due draws now, since a later moment might have other users or another date."""
        if self.plan.wild or not self.model.undecided:
            return
        self.until_done(lambda: self.backend.write(CompleteTask(number=1), OPERATOR, lambda context: None))
        self.follow_log()
        self.model.undecided = False

    def _restart_after_crash(self) -> None:
        """Restart; only the open file and its settings are kept, since opening them is slow."""
        kept = self.backend.runtime
        self._open_place()
        self.backend.__dict__["runtime"] = kept

    def open(self) -> None:
        """Start as a new process."""
        self._open_place()

    def _open_place(self) -> None:
        self.backend = WatchedLocal(Home(self.root), warn=self._warned, clock=self.clock, randomness=self.chance)
        self.backend.world = self

    def shut(self) -> None:
        """End as a process does."""
        if "runtime" in self.backend.__dict__:
            self.backend.runtime.database.close()

    def _warned(self, sentence: str) -> None:
        require(not sentence.startswith("What follows"), "no_fault_of_the_place", sentence)

    # Users.

    def boss(self) -> Principal:
        """Return the admin, who is never changed."""
        return _principal(next(iter(self.model.people.values())))

    def any_user(self, number: int) -> Principal:
        """Return an active user."""
        active = [person for person in self.model.people.values() if person.active]
        return _principal(active[number % len(active)])

    def person(self, user_id: str) -> Principal:
        """Return a user by id."""
        return _principal(self.model.people[user_id])

    def _named(self, username: str) -> Principal:
        return _principal(next(p for p in self.model.people.values() if p.username == username))

    def changeable(self, number: int) -> Person | None:
        """Return a user who may be changed: two workers and an accountant stay, except in a wild world."""
        others = list(self.model.people.values())[1 if self.plan.wild else FOUNDERS :]
        return others[number % len(others)] if others else None

    # Watching.

    def rows(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return rows of the database."""
        with self.backend.runtime.database.connection(writes=False) as connection:
            return connection.select(statement, *parameters)

    def head(self) -> int:
        """Return the position of the last event."""
        return int(self.rows("SELECT coalesce(max(sequence), 0) FROM bus_log")[0][0])

    def follow_log(self) -> None:
        """Let the model apply new events."""
        for sequence, envelope in self.rows(
            "SELECT sequence, envelope FROM bus_log WHERE sequence > ? ORDER BY sequence", (self.model.sequence,)
        ):
            self.model.take(sequence, envelope)

    def _remember_what_is_done(self) -> None:
        for consumer, sequence, subject, type_ in self.rows(
            "SELECT consumer, sequence, subject, type FROM bus_inbox"
            " JOIN bus_log ON sequence BETWEEN first_sequence AND last_sequence ORDER BY sequence"
        ):
            if type_ in consumer_of(consumer).types:
                self._done[consumer].add(sequence)
                self._last[consumer, subject] = sequence
        self.model.undecided = False
        assert self.model.balances[MANAGEMENT] == 0
        assert len(self.model.people) == FOUNDERS


def _principal(person: Person) -> Principal:
    return Principal(person.username, person.user_id, Role(person.role))
