"""A company that lives through a plan, watched after every step."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from popug_cli.app import Local
from popug_cli.audit.doctor import examine
from popug_cli.bus import consumers as bus_consumers
from popug_cli.bus.consumers import CatchUp, Consumer
from popug_cli.kernel.errors import IntegrityFault, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import DropDeadLetter, RetryDeadLetters
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    DeactivateUser,
    ImportUsers,
    NewPerson,
    SetEmail,
    SetRole,
)
from popug_cli.messages.principal import NOBODY, Principal
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, ShuffleTasks
from tests.integration.support import SetClock
from tests.simulation import seams, thin
from tests.simulation.chance import NamedChance
from tests.simulation.disturbances import ALL_AT_ONCE, PLANNED, Crash, CutShort, Disturbances
from tests.simulation.model import MANAGEMENT, Model, Person, Task
from tests.simulation.plan import COMMANDS, Operation, Plan
from tests.simulation.violation import Violation, require

CONSUMERS = ("billing", "tasks", "analytics", "mail")
FOUNDERS = 4
MOST_PEOPLE = 20
BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EXAMINED_EVERY = 500
COMPARED_EVERY = 40
CATCHING_UP_EVERY = 10
HEALING_ROUNDS = 20


class Did(NamedTuple):
    """A command as it was given, for the undisturbed twin to repeat."""

    place: int
    at: datetime
    actor: str
    message: Message[Any]


class WatchedLocal(Local):
    """The way in, cut off before the consumers' turn where the world says so."""

    world: "World"

    def catch_up(self, *, whenever: bool = False) -> CatchUp:
        if self.world.cut_short:
            self.world.cut_short = False
            raise CutShort
        return super().catch_up(whenever=whenever)


class World:
    """One company on a copy of a template home. ``real`` runs on SQLAlchemy, otherwise on bare sqlite3."""

    def __init__(self, plan: Plan, template: Path, root: Path, *, real: bool = False) -> None:
        self.plan = plan
        self.root = root
        self.real = real
        shutil.copytree(template, root)
        self.chance = NamedChance(plan.seed)
        self.clock = SetClock(BEGINNING)
        self.wrong = Disturbances(plan.wild)
        self.model = Model()
        self.did: list[Did] = []
        self.place_in_plan = -1
        self.steps = 0
        self.cut_short = False
        self.handled = self.committed = False
        self._delivering: list[tuple[str, int, str]] = []
        self._done: dict[str, set[int]] = {name: set() for name in CONSUMERS}
        self._last: dict[tuple[str, str], int] = {}
        self._raw: sqlite3.Connection | None = None
        self._consumers = {name: self._wrapped(seams.real_consumer_of(name)) for name in CONSUMERS}
        self._open()
        self._follow_log()
        self._remember_what_is_done()

    # What the program sees of the world.

    def transaction(self, engine: Any, *, writes: bool) -> AbstractContextManager[Any]:
        """One of the program's transactions, with the points at which it may crash."""
        return self._writing(engine) if writes else self._begin(engine, writes=False)

    @contextmanager
    def _writing(self, engine: Any) -> Iterator[Any]:
        self.handled = False
        self._delivering.clear()
        bus_consumers.BATCH_EVENTS = self.wrong.batch_size
        self.wrong.next_transaction()
        with self._begin(engine, writes=True) as connection:
            yield connection
            if self.wrong.is_time_to_crash("before the commit"):
                raise self._crash()
        self._committed()

    def consumer_of(self, module: str) -> Consumer:
        """A module's ear, wrapped."""
        return self._consumers[module]

    def handle(self, handler: Callable[[Any, Any], Any], message: Any, context: Any) -> Any:
        """Let a command's handler draw for this command."""
        with self.chance.purpose("command", self.place_in_plan):
            answer = handler(message, context)
        self.handled = True
        return answer

    def price_times(self, task_id: str) -> int:
        """How often a task was priced, what is not committed yet included."""
        priced = "SELECT count(*) FROM bus_log WHERE subject = ? AND type = 'popug.billing.task_priced.v1'"
        return int(self.rows(priced, (task_id,))[0][0])

    def _begin(self, engine: Any, *, writes: bool) -> AbstractContextManager[Any]:
        if self.real:
            return seams.real_transaction(engine, writes=writes)
        assert self._raw is not None
        return thin.transaction(self._raw, writes=writes)

    def _committed(self) -> None:
        self.committed = self.committed or self.handled
        for consumer, sequence, subject in self._delivering:
            done, key = self._done[consumer], (consumer, subject)
            require(sequence not in done, "effects_happen_once", f"{consumer} took {sequence} again")
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
        """Do one operation, then look at everything."""
        self.steps += 1
        self.place_in_plan = operation.place
        getattr(self, f"_{operation.kind}")(operation)
        if operation.kind in COMMANDS or self.model.sequence != self._head():
            self.watch()
        if self.steps % COMPARED_EVERY == 0:
            self.compare_tables()
        if self.steps % EXAMINED_EVERY == 0 and self.steps < len(self.plan.operations):
            self.examine()

    def repeat(self, did: Did) -> None:
        """Do what the disturbed twin did, at the same instant; every tenth command at least catches up."""
        self._decide()
        self.clock.instant = did.at
        self.place_in_plan = did.place
        self.steps += 1
        in_haste = self.plan.cut_short > 0.5 and self.steps % CATCHING_UP_EVERY
        self.cut_short = bool(in_haste) and not isinstance(did.message, CloseDay)
        self._perform(did.actor, did.message)
        self.cut_short = False
        self._follow_log()

    def finish(self) -> None:
        """Heal everything, retry what was given up, catch up, and look once more."""
        self.heal_everything()
        self.watch()
        self.compare_tables()
        lost = self.model.pending.keys() - self._dropped()
        require(not lost, "nothing_is_lost", lost)
        self.examine()

    def close(self) -> None:
        """Let go of the home."""
        self._shut()
        shutil.rmtree(self.root)

    # Commands.

    def _add(self, operation: Operation) -> None:
        jira = f"POPUG-{operation.b}" if operation.b % 3 == 0 else None
        self._command(operation, self._somebody(operation.a), AddTask(title=f"Task {operation.b}", jira_id=jira))

    def _complete_own(self, operation: Operation) -> None:
        open_tasks = [task for task in self.model.numbers if not task.completed]
        if open_tasks:
            task = open_tasks[operation.b % len(open_tasks)]
            self._command(operation, self._person(task.assignee_id), CompleteTask(number=task.number))

    def _complete_any(self, operation: Operation) -> None:
        number = 1 + operation.b % (len(self.model.numbers) + 1)
        self._command(operation, self._somebody(operation.a), CompleteTask(number=number))

    def _shuffle(self, operation: Operation) -> None:
        actor = self._boss() if operation.a % 4 else self._somebody(operation.b)
        self._command(operation, actor, ShuffleTasks())

    def _hire(self, operation: Operation) -> None:
        if len(self.model.people) < MOST_PEOPLE:
            role = ("worker", "worker", "accountant", "manager")[operation.a % 4]
            name = f"p{operation.place}"
            self._command(
                operation, self._boss(), AddUser(username=name, email=f"{name}@example.com", role=Role(role))
            )

    def _import_tasks(self, operation: Operation) -> None:
        lines = [NewTask(title=f"Line {(operation.b + n) % 40}") for n in range(1 + operation.a % 8)]
        self._command(operation, self._somebody(operation.b), ImportTasks(lines=[*lines]))

    def _import_people(self, operation: Operation) -> None:
        if len(self.model.people) < MOST_PEOPLE:
            names = [f"i{operation.place}-{n}" for n in range(1 + operation.a % 3)]
            people = [NewPerson(username=n, email=f"{n}@example.com", role=Role.WORKER) for n in names]
            self._command(operation, self._boss(), ImportUsers(people=[*people]))

    def _set_role(self, operation: Operation) -> None:
        if person := self._changeable(operation.a):
            role = list(Role)[operation.b % 4]
            self._command(operation, self._boss(), SetRole(username=person.username, role=role))

    def _flip_active(self, operation: Operation) -> None:
        if person := self._changeable(operation.a):
            message = DeactivateUser if person.active else ActivateUser
            self._command(operation, self._boss(), message(username=person.username))

    def _set_email(self, operation: Operation) -> None:
        if person := self._changeable(operation.a):
            email = f"{person.username}.{operation.b % 5}@example.com"
            self._command(operation, self._boss(), SetEmail(username=person.username, email=email))

    def _close_day(self, operation: Operation) -> None:
        if not self.plan.wild:
            self.heal_everything()
        yesterday = operation.a % 3 > 0
        self._command(operation, self._boss(), CloseDay(yesterday=yesterday, send_mail=False, confirmed=True))

    # The clock.

    def _clock_forward(self, operation: Operation) -> None:
        self._decide()
        seconds = (7, 60, 600, 3600, 3600 * 5)[operation.a % 5] if operation.b % 40 else 86400 * (1 + operation.c % 3)
        self.clock.advance(seconds=seconds)

    def _clock_back(self, operation: Operation) -> None:
        self._decide()
        self.clock.advance(seconds=-(1, 60, 3600, 86400)[operation.a % 4])

    # Disturbances.

    def _redeliver(self, operation: Operation) -> None:
        """The cursor goes back: what was done is delivered again."""
        consumer = CONSUMERS[operation.a % len(CONSUMERS)]
        back = operation.b % (30 if operation.c % 10 else 500)
        with self._begin(self.place.runtime.engine, writes=True) as connection:
            connection.exec_driver_sql(
                "UPDATE bus_cursors SET position = max(0, position - ?) WHERE consumer = ?", (back, consumer)
            )

    def _crash_soon(self, operation: Operation) -> None:
        self.wrong.crash_in = 1 + operation.a % 6
        self.wrong.crash_where = ("before the cursor", "before the commit", "after the commit")[operation.b % 3]

    def _outage(self, operation: Operation) -> None:
        self.wrong.down.add(CONSUMERS[operation.a % len(CONSUMERS)])

    def _poison(self, operation: Operation) -> None:
        """One subject, more often a new one, is more than one consumer can bear."""
        subjects = [*self.model.people, *self.model.tasks]
        recent = subjects[-3:] if operation.b % 2 else subjects
        self.wrong.poisoned.add((CONSUMERS[operation.a % len(CONSUMERS)], recent[operation.c % len(recent)]))

    def _heal(self, operation: Operation) -> None:
        self.wrong.down.clear()
        if operation.a % 2:
            self.wrong.poisoned.clear()

    def _restart(self, operation: Operation) -> None:
        self._shut()
        self._open()

    def _batch_size(self, operation: Operation) -> None:
        self.wrong.batch_size = (1, 3, 7, 20, 100, ALL_AT_ONCE)[operation.a % 6]

    def _mix(self, operation: Operation) -> None:
        self.wrong.mixing = random.Random(operation.b) if operation.a % 4 else None  # noqa: S311 - not for secrets

    def _catch_up(self, operation: Operation) -> None:
        self._until_done(lambda: self.place.catch_up(whenever=operation.a % 2 == 0))

    def _retry(self, operation: Operation) -> None:
        self._until_done(lambda: self.place.perform_as(self._boss(), RetryDeadLetters()))

    def _drop(self, operation: Operation) -> None:
        rows = self.rows(
            "SELECT id FROM bus_set_aside WHERE state IN ('dead', 'retrying') AND (consumer <> 'tasks' OR subject NOT IN"
            " (SELECT user_id FROM identity_users)) ORDER BY id"
        )
        if rows:
            dead_id = rows[operation.a % len(rows)][0]
            message = DropDeadLetter(dead_id=dead_id, reason="the simulation says so")
            try:
                self._until_done(lambda: self.place.perform_as(self._boss(), message))
            except PopugError as refusal:
                require(refusal.code == "dead_letter_not_found", "a_head_can_be_dropped", refusal)

    def heal_everything(self) -> None:
        """Nothing is wrong any more and nothing waits."""
        self.wrong.heal()
        self.cut_short = False
        for _ in range(HEALING_ROUNDS):
            self._until_done(lambda: self.place.catch_up(whenever=True))
            if not self.rows("SELECT 1 FROM bus_set_aside WHERE state <> 'dropped' LIMIT 1"):
                return
            self._until_done(lambda: self.place.perform_as(self._boss(), RetryDeadLetters()))
        left = self.rows("SELECT consumer, sequence, state, error FROM bus_set_aside WHERE state <> 'dropped' LIMIT 3")
        raise Violation("everything_heals", str(left))

    # Performing.

    def _command(self, operation: Operation, actor: Principal, message: Message[Any]) -> None:
        """Perform as a person would, who tries again only what surely was not done."""
        self._decide()
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
                self.place.perform_as(who, message)
            except CutShort:
                pass
            except Crash:
                self._restart_after_crash()
                if not self.committed:
                    continue
            except PopugError as refusal:
                require(not isinstance(refusal, IntegrityFault | Unavailable), "refused_for_a_reason", refusal)
                self._judge_refusal(who, message)
                return
            acknowledged = self.committed or isinstance(message, CloseDay)
            require(acknowledged, "acknowledged_is_committed", message)
            return

    def _judge_refusal(self, who: Principal, message: Message[Any]) -> None:
        if isinstance(message, CompleteTask) and not self.plan.wild and message.number <= len(self.model.numbers):
            self._follow_log()
            task = self.model.numbers[message.number - 1]
            mine = not task.completed and task.assignee_id == who.user_id
            require(not mine, "the_holder_may_complete", f"#{task.number}")

    def _until_done(self, work: Callable[[], object]) -> None:
        while True:
            try:
                work()
            except Crash:
                self._restart_after_crash()
            else:
                return

    def _decide(self) -> None:
        """Let tasks draw now what it has to, where a later moment might give it other people or another day."""
        if self.plan.wild or not self.model.undecided:
            return
        self._until_done(lambda: self.place.write("tasks", NOBODY, lambda context: None))
        self._follow_log()
        self.model.undecided = False

    def _restart_after_crash(self) -> None:
        """Begin anew; of what was opened only the file and its settings are kept, for opening them is slow."""
        kept = self.place.runtime
        self._open_place()
        self.place.__dict__["runtime"] = kept

    def _open(self) -> None:
        self._open_place()
        self._raw = thin.connect(self.root / "popug.db")

    def _open_place(self) -> None:
        self.place = WatchedLocal(Home(self.root), warn=self._warned, clock=self.clock, chance=self.chance)
        self.place.world = self

    def _shut(self) -> None:
        if "runtime" in self.place.__dict__:
            self.place.runtime.engine.dispose()
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _warned(self, sentence: str) -> None:
        require(not sentence.startswith("What follows"), "no_fault_of_the_place", sentence)

    # People.

    def _boss(self) -> Principal:
        return _principal(next(iter(self.model.people.values())))

    def _somebody(self, number: int) -> Principal:
        active = [person for person in self.model.people.values() if person.active]
        return _principal(active[number % len(active)])

    def _person(self, user_id: str) -> Principal:
        return _principal(self.model.people[user_id])

    def _named(self, username: str) -> Principal:
        return _principal(next(p for p in self.model.people.values() if p.username == username))

    def _changeable(self, number: int) -> Person | None:
        others = list(self.model.people.values())[1 if self.plan.wild else FOUNDERS :]
        return others[number % len(others)] if others else None

    # Watching.

    def rows(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """What stands in the database."""
        assert self._raw is not None
        return self._raw.execute(statement, parameters).fetchall()

    def watch(self) -> None:
        """What must hold after every step, by what is new in the log and by the small tables."""
        self._follow_log()
        self._watch_balances()
        self._watch_tasks()
        self._watch_cursors()
        self._watch_set_aside()

    def compare_tables(self) -> None:
        """All tasks and people against what their events say."""
        held = self.rows("SELECT task_id, number, assignee_id, status = 'completed' FROM tasks_tasks ORDER BY number")
        told = [(t.task_id, t.number, t.assignee_id, int(t.completed)) for t in self.model.numbers]
        require(held == told, "tasks_equal_events", _first_difference(held, told))
        people = self.rows("SELECT user_id, role, active, email FROM identity_users ORDER BY registered_at, user_id")
        known = {(p.user_id, p.role, int(p.active), p.email) for p in self.model.people.values()}
        require(set(people) == known, "people_equal_events", set(people) ^ known)

    def examine(self) -> None:
        """The doctor's whole examination, after consumers had their turn as before any doctor's."""
        self._until_done(self.place.catch_up)
        with self.place.runtime.reading(NOBODY) as context:
            health = examine(context)
        bad = [f"{check.name}: {check.detail}" for check in health.checks if not check.ok]
        require(health.ok, "doctor", bad)

    def _dropped(self) -> set[str]:
        statement = "SELECT bus_log.id FROM bus_log JOIN bus_set_aside USING (sequence) WHERE consumer = 'billing'"
        return {event_id for (event_id,) in self.rows(statement)}

    def _head(self) -> int:
        return int(self.rows("SELECT coalesce(max(sequence), 0) FROM bus_log")[0][0])

    def _follow_log(self) -> None:
        for sequence, envelope in self.rows(
            "SELECT sequence, envelope FROM bus_log WHERE sequence > ? ORDER BY sequence", (self.model.sequence,)
        ):
            self.model.take(sequence, envelope)

    def _watch_balances(self) -> None:
        accounts = dict(self.rows("SELECT account_id, balance_cents FROM billing_accounts"))
        require(sum(accounts.values()) == 0, "accounts_sum_to_zero", accounts)
        told = {account: cents for account, cents in self.model.balances.items() if cents}
        kept = {account: cents for account, cents in accounts.items() if cents}
        require(kept == told, "balances_equal_entries", f"{kept} where the entries say {told}")
        entries = self.rows("SELECT coalesce(max(position), 0) FROM billing_entries")[0][0]
        require(entries == self.model.entries, "entries_equal_events", f"{entries} and {self.model.entries}")

    def _watch_tasks(self) -> None:
        for task_id in self.model.touched:
            task = self.model.tasks[task_id]
            row = self.rows("SELECT assignee_id, status FROM tasks_tasks WHERE number = ?", (task.number,))
            require(row == [_held(task)], "tasks_equal_events", f"#{task.number}: {row}, told {_held(task)}")
        self.model.touched.clear()

    def _watch_cursors(self) -> None:
        cursors = dict(self.rows("SELECT consumer, position FROM bus_cursors"))
        require(max(cursors.values(), default=0) <= self.model.sequence, "cursors_within_the_log", cursors)
        if self.model.pending and cursors.get("billing", 0) >= self.model.last_for_billing:
            held = self.rows("SELECT 1 FROM bus_set_aside WHERE consumer = 'billing' LIMIT 1")
            require(bool(held), "nothing_is_lost", self.model.pending)

    def _watch_set_aside(self) -> None:
        heads: set[tuple[str, str]] = set()
        for consumer, subject, state, error in self.rows(
            "SELECT consumer, subject, state, error FROM bus_set_aside WHERE state <> 'dropped' ORDER BY sequence"
        ):
            is_head = (consumer, subject) not in heads
            require(is_head == (state != "waiting"), "heads_hold_up_the_rest", f"{consumer}: {state} of {subject}")
            require(not is_head or PLANNED in error, "consumers_fail_when_told", f"{consumer}: {error}")
            heads.add((consumer, subject))

    def _remember_what_is_done(self) -> None:
        for consumer, sequence, subject in self.rows(
            "SELECT consumer, sequence, subject FROM bus_inbox JOIN bus_log USING (sequence) ORDER BY sequence"
        ):
            self._done[consumer].add(sequence)
            self._last[consumer, subject] = sequence
        self.model.undecided = False
        assert self.model.balances[MANAGEMENT] == 0
        assert len(self.model.people) == FOUNDERS


def _held(task: Task) -> tuple[str, str]:
    return task.assignee_id, "completed" if task.completed else "open"


def _principal(person: Person) -> Principal:
    return Principal(person.username, person.user_id, Role(person.role))


def _first_difference(one: Sequence[object], other: Sequence[object]) -> str:
    pairs = ((a, b) for a, b in zip(one, other, strict=False) if a != b)
    return str(next(pairs, f"{len(one)} and {len(other)} rows"))

