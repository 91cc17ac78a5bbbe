"""The state machine: in any order of commands, the program and the rules agree after each."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetStatement
from popug_cli.messages.bus import DropDeadLetter
from popug_cli.messages.identity import ActivateUser, AddUser, DeactivateUser, SetEmail, SetRole
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, ShuffleTasks
from tests.simulation import patches
from tests.simulation.injected_faults import Crash
from tests.simulation.invariants import watch
from tests.simulation.machine.rules import ONE_DAY, Company, Entry, Figures, Person, Price
from tests.simulation.plan import Plan
from tests.simulation.violation import require
from tests.simulation.world import World

MOST_PEOPLE = 8
CRASHES = ("before the cursor", "before the commit", "after the commit")
CONSUMERS_THAT_MAY_FAIL = ("billing", "analytics", "mail")
HEADS_WITH_A_PRICE = (
    "SELECT s.id, s.sequence, number FROM bus_set_aside s JOIN bus_log l USING (sequence) JOIN tasks_tasks ON task_id ="
    " l.subject WHERE consumer = 'billing' AND state IN ('dead', 'retrying') AND fee_cents IS NOT NULL AND type IN"
    " ('popug.tasks.task_assigned.v1', 'popug.tasks.task_completed.v1') ORDER BY s.id"
)
places = st.integers(0, 10_000)
titles = st.sampled_from(("Feed the cage", "[POPUG-7] Polish the perch", "Fill the trough", "[arc-12]Sing"))
_worlds = count()


class CompanyMachine(RuleBasedStateMachine):
    """One company on a copy of the template home in ``shop``; ``steps`` counts the steps of all companies."""

    shop: Path
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        plan = Plan("machine", wild=True, cut_short=0.0, operations=())
        self.world = World(plan, self.shop / "template", self.shop / f"machine-{os.getpid()}-{next(_worlds)}")
        self._living: AbstractContextManager[None] = patches.living_in(self.world)
        self._living.__enter__()
        clock = self.world.clock
        zone = ZoneInfo("Europe/Berlin")
        self.company = Company(zone, clock.instant.astimezone(zone).date())
        for person in self.world.model.people.values():
            self.company.people[person.username] = Person(person.username, person.role)
            self.company.emails[person.username] = person.email

    # People.

    @precondition(lambda self: len(self.company.people) < MOST_PEOPLE)
    @rule(role=st.sampled_from([*Role]), taken=st.sampled_from(("", "", "", "name", "email")))
    def hire(self, role: Role, taken: str) -> None:
        name = "ann" if taken == "name" else f"p{len(self.company.people)}"
        email = "ann@example.com" if taken else f"{name}@example.com"
        expected = {"name": "username_taken", "email": "email_taken" if self._is_taken(email) else ""}.get(taken, "")
        self._tell("boss", AddUser(username=name, email=email, role=role), expected)
        if not expected:
            self.company.people[name] = Person(name, role.value)
            self.company.emails[name] = email
            self._settle_people()

    @rule(who=places, role=st.sampled_from([*Role]))
    def set_role(self, who: int, role: Role) -> None:
        person = self._other(who)
        self._tell("boss", SetRole(username=person.name, role=role))
        person.role = role.value
        self._settle_people()

    @rule(who=places)
    def leave_or_come_back(self, who: int) -> None:
        person = self._other(who)
        message = DeactivateUser if person.active else ActivateUser
        self._tell("boss", message(username=person.name))
        person.active = not person.active
        self._settle_people()

    @rule(who=places, tail=st.integers(0, 2))
    def set_email(self, who: int, tail: int) -> None:
        person, email = self._other(who), f"Shared{tail}@example.com"
        holder = next((name for name, has in self.company.emails.items() if has.lower() == email.lower()), person.name)
        self._tell("boss", SetEmail(username=person.name, email=email), "" if holder == person.name else "email_taken")
        if holder == person.name:
            self.company.emails[person.name] = email

    @precondition(lambda self: not any(p.active and p.role == "admin" and p.name != "boss" for p in self._everybody()))
    @rule(role=st.sampled_from((Role.WORKER, None)))
    def the_last_admin_stays(self, role: Role | None) -> None:
        message = SetRole(username="boss", role=role) if role else DeactivateUser(username="boss")
        self._tell("boss", message, "last_admin")

    # Tasks.

    @rule(who=places, title=titles)
    def add(self, who: int, title: str) -> None:
        actor, refused = self._somebody(who), self.company.refuses_task()
        self._tell(actor, AddTask(title=title), refused)
        if not refused:
            self._created([title], actor)

    @rule(who=places, lines=st.lists(titles, min_size=1, max_size=4))
    def import_some(self, who: int, lines: list[str]) -> None:
        actor, company = self._somebody(who), self.company
        before = {*company.imported}
        fresh = company.fresh(lines)
        refused = company.refuses_task() if fresh else ""
        answer = self._tell(actor, ImportTasks(lines=[NewTask(title=line) for line in lines]), refused)
        if refused:
            company.imported = before
        else:
            require(answer is None or answer.imported == len(fresh), "imported_once", answer)
            self._created(fresh, actor)

    @rule(who=places, which=places)
    def complete(self, who: int, which: int) -> None:
        number = 1 + which % (len(self.company.tasks) + 1)
        self._complete(self._somebody(who), number)

    @precondition(lambda self: self.company.open_tasks)
    @rule(which=places)
    def complete_as_holder(self, which: int) -> None:
        task = self.company.open_tasks[which % len(self.company.open_tasks)]
        if self.company.people[task.assignee].active:
            self._complete(task.assignee, task.number)

    @precondition(lambda self: any(task.lost_by for task in self.company.open_tasks))
    @rule(which=places)
    def complete_as_former_holder(self, which: int) -> None:
        lost = [(name, task.number) for task in self.company.open_tasks for name in sorted(task.lost_by)]
        name, number = lost[which % len(lost)]
        if self.company.people[name].active:
            self._complete(name, number)

    @rule(who=places, allowed=st.booleans())
    def shuffle(self, who: int, allowed: bool) -> None:
        actor = "boss" if allowed else self._somebody(who)
        open_tasks, refused = len(self.company.open_tasks), self.company.refuses_shuffle(actor)
        answer = self._tell(actor, ShuffleTasks(), refused)
        if not refused:
            require(answer is None or answer.task_count == open_tasks, "shuffles_every_open_task", answer)
            self.company.shuffle(self._drawn(), self._now)

    # Money and days.

    @precondition(lambda self: self.company.entries)
    @rule(which=places)
    def correct(self, which: int) -> None:
        entry_id, entry, was_reversed = self._entries()[which % len(self.company.entries)]
        place = next(
            n for n, e in enumerate(self.company.entries) if e == entry and (n in self.company.reversed) == was_reversed
        )
        refused = self.company.refuses_correction(place)
        self._tell("boss", CorrectEntry(entry_id=entry_id, reason="never agreed"), refused)
        if not refused:
            self.company.correct(place, self._now)

    @rule(who=places, allowed=st.booleans(), days=st.sampled_from((0, 0, 1, 1, 2, -1)), confirmed=st.booleans())
    def close(self, who: int, allowed: bool, days: int, confirmed: bool) -> None:
        actor = "boss" if allowed else self._somebody(who)
        up_to = max(self.company.today(self._now) - days * ONE_DAY, self.company.first_day)
        refused = self.company.refuses_close(actor, up_to, self._now, confirmed=confirmed)
        report = self._tell(actor, CloseDay(day=up_to, send_mail=False, confirmed=confirmed), refused)
        if not refused:
            paid = self.company.close(up_to)
            if report is not None:
                payouts = {d.business_date: {p.username: p.amount_cents for p in d.payouts} for d in report.days}
                news = {d.business_date for d in report.days if not d.already_closed}
                require({day: payouts[day] for day in news} == paid, "closes_as_the_rules_say", f"{payouts}, {paid}")
                require(bool(report.set_aside) or not self.company.waits, "a_close_names_what_waits", report)

    @rule(hours=st.sampled_from((1, 7, 23, 24, 50)))
    def time_passes(self, hours: int) -> None:
        self.world.clock.advance(hours=hours)

    @rule(weeks=st.sampled_from((1, 5)), back=st.booleans())
    def much_time_passes_or_the_clock_is_set_back(self, weeks: int, back: bool) -> None:
        self.world.clock.advance(hours=-30) if back else self.world.clock.advance(weeks=weeks)

    # Faults.

    @precondition(lambda self: self.company.open_tasks)
    @rule(which=places, consumer=st.sampled_from(("billing", *CONSUMERS_THAT_MAY_FAIL)), done=st.booleans())
    def one_task_is_more_than_a_consumer_can_bear(self, which: int, consumer: str, done: bool) -> None:
        task = self.company.open_tasks[which % len(self.company.open_tasks)]
        self.world.wrong.poisoned.add((consumer, self.world.model.numbers[task.number - 1].task_id))
        if consumer == "billing":
            self.company.hold_up(task.number)
        if done and self.company.people[task.assignee].active:
            self._complete(task.assignee, task.number)

    @rule(consumer=st.sampled_from(CONSUMERS_THAT_MAY_FAIL))
    def a_consumer_fails(self, consumer: str) -> None:
        self.world.wrong.down.add(consumer)
        self.company.billing_is_down |= consumer == "billing"

    @precondition(lambda self: self.world.wrong.down or self.world.wrong.poisoned)
    @rule()
    def dead_letters_are_retried(self) -> None:
        self.world.heal_everything()
        self.company.heal(self._prices())

    @precondition(lambda self: any(task.owed and task.fee is not None for task in self.company.tasks))
    @rule(which=places)
    def a_dead_letter_is_given_up(self, which: int) -> None:
        heads = self.world.rows(HEADS_WITH_A_PRICE)
        if heads:
            dead_id, sequence, number = heads[which % len(heads)]
            self._tell("boss", DropDeadLetter(dead_id=dead_id, reason="the machine says so"))
            self.world.given_up.add(("billing", sequence))
            self.company.give_up(number)

    @rule()
    def restart(self) -> None:
        self.world.shut()
        self.world.open()

    @rule(soon=st.integers(0, 5), where=st.sampled_from(CRASHES))
    def the_next_command_meets_a_crash(self, soon: int, where: str) -> None:
        self.world.wrong.crash_in, self.world.wrong.crash_where = 1 + soon, where

    @rule(consumer=st.sampled_from(("tasks", *CONSUMERS_THAT_MAY_FAIL)), back=st.integers(1, 40))
    def events_are_delivered_again(self, consumer: str, back: int) -> None:
        with self.world.begun() as (connection, _):
            connection.execute(
                "UPDATE bus_cursors SET position = max(0, position - ?) WHERE consumer = ?", back, consumer
            )

    # Queries.

    @rule(who=places)
    def ask_for_a_balance(self, who: int) -> None:
        name = [*self.company.people][who % len(self.company.people)]
        if not self.company.billing_is_down:
            answer = self._tell("boss", GetBalance(username=name))
            require(answer.balance_cents == self.company.balance(name), "balance_as_the_rules_say", answer)
            first = self.company.first_day - 400 * ONE_DAY
            statement = self._tell("boss", GetStatement(username=name, from_date=first, to_date=first + 4000 * ONE_DAY))
            require(
                statement.closing_balance_cents == answer.balance_cents, "a_statement_ends_with_the_balance", statement
            )
            running = 0
            for entry in statement.entries:
                running += entry.signed_cents
                require(entry.balance_cents == running, "a_statement_adds_up", entry)
                require(entry.kind != "payout" or running == 0, "a_payout_leaves_zero", entry)

    @rule()
    def ask_analytics(self) -> None:
        if self.world.wrong.down or self.world.wrong.poisoned:
            return
        answer, day = self._tell("boss", GetAnalytics()), self.company.today(self._now)
        fees, rewards = self.company.fees_and_rewards(day)
        require(answer.income_cents == fees - rewards, "analytics_as_the_rules_say", answer)

    # Invariants after each step.

    @invariant()
    def everything_agrees(self) -> None:
        type(self).steps += 1
        company, world = self.company, self.world
        watch(world)
        expected = [
            (t.number, t.title, t.jira, t.creator, t.assignee, t.completed, t.fee, t.reward) for t in company.tasks
        ]
        require(self._tasks() == expected, "tasks_as_the_rules_say", f"{self._tasks()}\n{expected}")
        entered = sorted((e for _, e, _ in self._entries()), key=repr)
        require(
            entered == sorted(company.entries, key=repr), "entries_as_the_rules_say", _odd(entered, company.entries)
        )
        columns = "business_date, fees_cents, rewards_cents, payouts_cents, paid_count, in_red_count"
        recorded = {d: Figures(*f) for d, *f in world.rows(f"SELECT {columns} FROM billing_days")}
        expected_days = {day.isoformat(): figures for day, figures in company.closed.items()}
        require(recorded == expected_days, "days_as_the_rules_say", f"{recorded}, {expected_days}")
        if not {"mail"} & world.wrong.down:
            self._mails_agree()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.dead_letters_are_retried()
                self.everything_agrees()
                self.world.finish()
        finally:
            self._living.__exit__(None, None, None)
            self.world.close()

    # Calls of the program.

    @property
    def _now(self) -> Any:
        return self.world.clock.instant

    def _tell(self, actor: str, message: Message[Any], refused: str = "") -> Any:
        """Perform a message and check that it is refused exactly so, or not at all; retry after a crash.

        Return None if the answer was lost in a crash.
        """
        world = self.world
        world.place_in_plan += 1
        world.committed = False
        is_lost = False
        while True:
            try:
                answer, code = world.backend.perform_as(world._named(actor), message), ""
            except Crash:
                world._restart_after_crash()
                is_lost = world.committed or isinstance(message, CloseDay)
                if not world.committed or isinstance(message, CloseDay):
                    continue
                world.until_done(world.backend.catch_up)
                answer, code = None, ""
            except PopugError as error:
                answer, code = None, error.code
            require(code == refused, "refused_as_the_rules_say", f"{message} by {actor}: {code!r}, not {refused!r}")
            world.until_done(world.backend.catch_up)
            world.follow_log()
            return None if is_lost else answer

    def _complete(self, actor: str, number: int) -> None:
        refused = self.company.refuses_completion(actor, number)
        self._tell(actor, CompleteTask(number=number), refused)
        if not refused:
            self.company.complete(number, self._now)

    def _created(self, lines: list[str], creator: str) -> None:
        drawn = self._drawn()
        tasks = [self.company.add(title, None, creator, drawn, self._now) for title in lines]
        self.company.charge(tasks, self._prices(), self._now)

    def _settle_people(self) -> None:
        self.company.settle_people(self._drawn(), self._now)

    def _drawn(self) -> dict[int, str]:
        return {number: assignee for number, _, _, _, assignee, *_ in self._tasks()}

    def _prices(self) -> dict[int, Price]:
        return {number: (fee, reward) for number, *_, fee, reward in self._tasks()}

    def _tasks(self) -> list[tuple[Any, ...]]:
        return [
            (*row[:5], bool(row[5]), *row[6:])
            for row in self.world.rows(
                "SELECT number, title, jira_id, c.username, a.username, status = 'completed', fee_cents, reward_cents"
                " FROM tasks_tasks t JOIN identity_users c ON c.user_id = creator_id"
                " JOIN identity_users a ON a.user_id = assignee_id ORDER BY number"
            )
        ]

    def _entries(self) -> list[tuple[str, Entry, bool]]:
        rows = self.world.rows(
            "SELECT entry_id, username, kind, amount_cents, business_date, number, EXISTS (SELECT 1 FROM"
            " billing_entries r WHERE r.corrects = e.entry_id) FROM billing_entries e JOIN identity_users u ON"
            " u.user_id = employee_id LEFT JOIN tasks_tasks t ON t.task_id = e.task_id ORDER BY position"
        )
        day = self.company.first_day.fromisoformat
        return [
            (id_, Entry(who, kind, cents, day(on), task), bool(gone)) for id_, who, kind, cents, on, task, gone in rows
        ]

    def _mails_agree(self) -> None:
        queued = self.world.rows(
            "SELECT username, business_date, amount_cents FROM mail_outbox JOIN identity_users USING (user_id)"
        )
        paid = [(e.person, e.day.isoformat(), e.cents) for e in self.company.entries if e.kind == "payout"]
        require(sorted(queued) == sorted(paid), "payouts_are_mails", f"{queued}, {paid}")

    def _everybody(self) -> Iterator[Person]:
        return iter(self.company.people.values())

    def _somebody(self, number: int) -> str:
        active = [person.name for person in self._everybody() if person.active]
        return active[number % len(active)]

    def _other(self, number: int) -> Person:
        others = [person for person in self._everybody() if person.name != "boss"]
        return others[number % len(others)]

    def _is_taken(self, email: str) -> bool:
        return email.lower() in {has.lower() for has in self.company.emails.values()}


def _odd(one: list[Entry], other: list[Entry]) -> str:
    return (
        f"only entered: {[e for e in one if e not in other]}, only by the rules: {[e for e in other if e not in one]}"
    )
