"""The rules of the game in plain Python: the state of a company after each command, and its refusals.

The model uses no code of the program, no events and no database. The caller passes in the random results (assignees
and prices), and the model checks that they are possible.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.simulation.violation import require

ASSIGNABLE_ROLES = {"worker", "accountant"}
MAY_SHUFFLE, MAY_CLOSE = {"manager", "admin"}, {"accountant", "admin"}
FEES, REWARDS = range(1000, 2001, 100), range(2000, 4001, 100)
SIGN = {"fee": -1, "reward": 1, "payout": -1, "fee_reversal": 1, "reward_reversal": -1}
REVERSAL_OF = {"fee": "fee_reversal", "reward": "reward_reversal"}
JIRA_IN_TITLE = re.compile(r"\[([A-Za-z][A-Za-z0-9]*-[0-9]+)\] *(.+)")
MOST_DAYS_AT_ONCE = 31
ONE_DAY = timedelta(days=1)

Price = tuple[int | None, int | None]


@dataclass(slots=True)
class Person:
    """A user with the present role."""

    name: str
    role: str
    active: bool = True

    @property
    def assignable(self) -> bool:
        """Return whether the user is assignable."""
        return self.active and self.role in ASSIGNABLE_ROLES


class Entry(NamedTuple):
    """A line of a user's account."""

    person: str
    kind: str
    cents: int
    day: date
    task: int | None


class Owed(NamedTuple):
    """A fee or reward that billing has not posted yet: its user, and the date of its cause."""

    kind: str
    person: str
    day: date


@dataclass(slots=True)
class Task:
    """A task; ``held_up`` while billing cannot consume its events, with the entries owed since."""

    number: int
    title: str
    jira: str | None
    creator: str
    assignee: str
    completed: bool = False
    fee: int | None = None
    reward: int | None = None
    lost_by: set[str] = field(default_factory=set)
    held_up: bool = False
    owed: list[Owed] = field(default_factory=list)


class Figures(NamedTuple):
    """The recorded figures of a closed day."""

    fees: int
    rewards: int
    payouts: int
    paid: int
    in_red: int


@dataclass
class Company:
    """A company by its rules."""

    zone: ZoneInfo
    first_day: date
    people: dict[str, Person] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    reversed: set[int] = field(default_factory=set)
    closed: dict[date, Figures] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    emails: dict[str, str] = field(default_factory=dict)
    billing_is_down: bool = False

    # Days.

    def today(self, now: datetime) -> date:
        """Return the date on the company's calendar."""
        return now.astimezone(self.zone).date()

    @property
    def first_open(self) -> date:
        """Return the first day that is not closed."""
        return max(self.closed) + ONE_DAY if self.closed else self.first_day

    def business_date(self, now: datetime) -> date:
        """Return the business date of an entry that is posted now."""
        return max(self.today(now), self.first_open)

    def refuses_close(self, who: str, up_to: date, now: datetime, *, confirmed: bool) -> str:
        """Return the code of the refusal of a close, or an empty text."""
        if self.people[who].role not in MAY_CLOSE:
            return "forbidden"
        if up_to > self.today(now):
            return "future_date"
        days = (up_to - self.first_open).days + 1
        return "needs_yes" if days > MOST_DAYS_AT_ONCE and not confirmed else ""

    def close(self, up_to: date) -> dict[date, dict[str, int]]:
        """Close each open day up to a date. Return the payouts of each."""
        paid: dict[date, dict[str, int]] = {}
        while (day := self.first_open) <= up_to:
            ends = {name: self.balance(name, day) for name in self.people}
            paid[day] = {name: end for name, end in ends.items() if end > 0}
            self.entries += [Entry(name, "payout", cents, day, None) for name, cents in paid[day].items()]
            fees, rewards = self.fees_and_rewards(day)
            in_red = sum(end < 0 for end in ends.values())
            self.closed[day] = Figures(fees, rewards, sum(paid[day].values()), len(paid[day]), in_red)
        return paid

    def fees_and_rewards(self, day: date) -> tuple[int, int]:
        """Return the figures of a day, reversals included."""
        moved = dict.fromkeys(SIGN, 0)
        for entry in self.entries:
            if entry.day == day:
                moved[entry.kind] += entry.cents
        return moved["fee"] - moved["fee_reversal"], moved["reward"] - moved["reward_reversal"]

    # Money.

    def balance(self, name: str, day: date = date.max) -> int:
        """Return the balance of a user at the end of a day."""
        return sum(SIGN[e.kind] * e.cents for e in self.entries if e.person == name and e.day <= day)

    def refuses_correction(self, place: int) -> str:
        """Return the code of the refusal of a correction, or an empty text."""
        correctable = self.entries[place].kind in REVERSAL_OF and place not in self.reversed
        return "" if correctable else "not_correctable"

    def correct(self, place: int, now: datetime) -> None:
        """Reverse an entry in the open day."""
        wrong = self.entries[place]
        self.reversed.add(place)
        day = max(self.business_date(now), wrong.day)
        self.entries.append(wrong._replace(kind=REVERSAL_OF[wrong.kind], day=day))

    def _owe(self, task: Task, owed: Owed) -> None:
        if task.held_up or self.billing_is_down:
            task.held_up = True
            task.owed.append(owed)
        else:
            self._enter(task, owed)

    def _enter(self, task: Task, owed: Owed) -> None:
        cents = task.fee if owed.kind == "fee" else task.reward
        assert cents is not None
        day = max(owed.day, self.first_open)
        self.entries.append(Entry(owed.person, owed.kind, cents, day, task.number))

    # Consumers.

    def hold_up(self, number: int) -> None:
        """Make billing fail on events of a task from now on."""
        self.tasks[number - 1].held_up = True

    def heal(self, prices: Mapping[int, Price]) -> None:
        """Let billing recover and post every waiting entry; the prices of tasks are passed in."""
        self.billing_is_down = False
        for task in self.tasks:
            task.held_up = False
            self._price(task, prices[task.number])
            for owed in task.owed:
                self._enter(task, owed)
            task.owed.clear()

    def give_up(self, number: int) -> None:
        """Drop the first entry owed by a task."""
        self.tasks[number - 1].owed.pop(0)

    @property
    def waits(self) -> bool:
        """Return whether an entry is not posted yet."""
        return any(task.owed for task in self.tasks)

    # Tasks.

    def refuses_task(self) -> str:
        """Return the code of the refusal to create a task, or an empty text."""
        return "" if any(p.assignable for p in self.people.values()) else "nobody_assignable"

    def add(self, title: str, jira: str | None, creator: str, drawn: Mapping[int, str], now: datetime) -> Task:
        """Create a task with the drawn assignee."""
        if found := JIRA_IN_TITLE.fullmatch(title):
            jira, title = found[1].upper(), found[2]
        number = len(self.tasks) + 1
        task = Task(number, title, jira, creator, drawn.get(number, ""), held_up=self.billing_is_down)
        self.tasks.append(task)
        self._assigned(task, task.assignee)
        return task

    def charge(self, tasks: Iterable[Task], prices: Mapping[int, Price], now: datetime) -> None:
        """Debit the fee of each task from its assignee, at the task's price."""
        for task in tasks:
            self._price(task, prices[task.number])
            self._owe(task, Owed("fee", task.assignee, self.today(now)))

    def fresh(self, titles: list[str]) -> list[str]:
        """Return the lines of a file that were not imported before; they count as imported from now on.

        The identity of a line is its Jira id, else its title and the count of that title so far.
        """
        seen: dict[str, int] = {}
        found = []
        for title in titles:
            seen[title] = seen.get(title, 0) + 1
            jira = JIRA_IN_TITLE.fullmatch(title)
            identity = jira[1].upper() if jira else f"{seen[title]}:{title}"
            if identity not in self.imported:
                self.imported.add(identity)
                found.append(title)
        return found

    def refuses_completion(self, who: str, number: int) -> str:
        """Return the code of the refusal if a user may not complete a task."""
        if number > len(self.tasks):
            return "task_not_found"
        task = self.tasks[number - 1]
        if task.completed:
            return "task_completed"
        if task.assignee == who:
            return ""
        return "task_reassigned" if who in task.lost_by else "not_your_task"

    def complete(self, number: int, now: datetime) -> None:
        """Complete a task as its assignee."""
        task = self.tasks[number - 1]
        task.completed = True
        self._owe(task, Owed("reward", task.assignee, self.today(now)))

    @property
    def open_tasks(self) -> list[Task]:
        """Return the open tasks."""
        return [task for task in self.tasks if not task.completed]

    def refuses_shuffle(self, who: str) -> str:
        """Return the code of the refusal if a user may not shuffle."""
        if self.people[who].role not in MAY_SHUFFLE:
            return "forbidden"
        return self.refuses_task() if self.open_tasks else ""

    def shuffle(self, drawn: Mapping[int, str], now: datetime) -> None:
        """Reassign every open task to the drawn user and charge the fee."""
        self._hand_over(self.open_tasks, drawn, now)

    def settle_people(self, drawn: Mapping[int, str], now: datetime) -> None:
        """Reassign open tasks of users who are not assignable any more, as soon as there is a candidate."""
        if not self.refuses_task():
            orphans = [task for task in self.open_tasks if not self.people[task.assignee].assignable]
            self._hand_over(orphans, drawn, now)

    def _hand_over(self, tasks: list[Task], drawn: Mapping[int, str], now: datetime) -> None:
        for task in tasks:
            before, task.assignee = task.assignee, drawn[task.number]
            self._assigned(task, task.assignee)
            if task.assignee != before:
                task.lost_by.add(before)
            self._owe(task, Owed("fee", task.assignee, self.today(now)))

    def _assigned(self, task: Task, name: str) -> None:
        somebody = self.people.get(name)
        require(somebody is not None and somebody.assignable, "drawn_among_the_assignable", f"#{task.number} to {name}")

    def _price(self, task: Task, price: Price) -> None:
        if task.held_up and task.fee is None:
            require(price == (None, None), "priced_when_billing_hears_of_it", f"#{task.number}: {price}")
            return
        if task.fee is None:
            require(price[0] in FEES and price[1] in REWARDS, "price_in_bounds", f"#{task.number}: {price}")
            task.fee, task.reward = price
        require((task.fee, task.reward) == price, "a_price_never_changes", f"#{task.number}: {price}")
