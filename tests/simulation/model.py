"""A model that follows the log event by event in plain Python, and the rules for each event."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec

from tests.simulation.violation import require

MANAGEMENT, PAYOUTS = "management", "payouts"
REVERSED = {"fee_reversal": "fee", "reward_reversal": "reward"}
BILLING_TYPES = {"user_registered", "task_created", "task_assigned", "task_completed", "day_ended"}
DECIDING_TYPES = {"user_registered", "user_role_changed", "user_deactivated", "user_reactivated", "shuffle_requested"}
decode = msgspec.json.Decoder().decode

Data = dict[str, Any]


@dataclass(slots=True)
class Person:
    """A user as identity's events describe it."""

    user_id: str
    username: str
    email: str
    role: str
    active: bool = True

    @property
    def assignable(self) -> bool:
        return self.active and self.role in {"worker", "accountant"}


@dataclass(slots=True)
class Task:
    """A task as its events describe it."""

    task_id: str
    number: int
    assignee_id: str
    assigned: bool = False
    completed: bool = False
    price: tuple[int, int] | None = None


@dataclass
class Model:
    """The world as its log describes it."""

    sequence: int = 0
    people: dict[str, Person] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    numbers: list[Task] = field(default_factory=list)
    pending: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    entries: int = 0
    balances: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    days: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))
    by_day: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    payouts: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    posted: dict[str, tuple[str, str, int, str | None, str]] = field(default_factory=dict)
    first_day: str = ""
    last_closed: str = ""
    last_ended: str = ""
    priced: int = 0
    last_for_billing: int = 0
    undecided: bool = False
    touched: set[str] = field(default_factory=set)

    def take(self, sequence: int, envelope: str) -> None:
        """Apply the next event; raise a violation if it contradicts earlier ones."""
        require(sequence == self.sequence + 1, "log_without_gaps", f"{sequence} follows {self.sequence}")
        self.sequence = sequence
        event = decode(envelope)
        self.first_day = self.first_day or event["time"][:10]  # worlds begin in the middle of a day
        publisher, name = event["type"].split(".")[1:3]
        counts_for = event.get("businessdate", "")
        require((publisher == "tasks") == bool(counts_for), "events_of_tasks_have_dates", event)
        require(publisher != "tasks" or counts_for > self.last_ended, "nothing_into_an_ended_day", event)
        if name in BILLING_TYPES:
            self.last_for_billing = sequence
        if name in DECIDING_TYPES:
            self.undecided = True
        handler = getattr(self, f"_{name}", None)
        if handler is not None:
            handler(event["data"], event)

    def first_open(self) -> str:
        """Return the day after the last closed one, in a zone that skips no date."""
        return str(date.fromisoformat(self.last_closed) + timedelta(days=1)) if self.last_closed else self.first_day

    def _user_registered(self, data: Data, event: Data) -> None:
        require(data["user_id"] not in self.people, "registered_once", data)
        self.people[data["user_id"]] = Person(data["user_id"], data["username"], data["email"], data["role"])

    def _user_role_changed(self, data: Data, event: Data) -> None:
        person = self.people[data["user_id"]]
        require(person.role == data["old_role"], "role_follows_role", data)
        person.role = data["new_role"]

    def _user_email_changed(self, data: Data, event: Data) -> None:
        self.people[data["user_id"]].email = data["email"]

    def _user_deactivated(self, data: Data, event: Data) -> None:
        self.people[data["user_id"]].active = False

    def _user_reactivated(self, data: Data, event: Data) -> None:
        self.people[data["user_id"]].active = True

    def _task_created(self, data: Data, event: Data) -> None:
        require(data["number"] == len(self.numbers) + 1, "numbers_without_gaps", data)
        task = Task(data["task_id"], data["number"], data["assignee_id"])
        self.tasks[task.task_id] = task
        self.numbers.append(task)
        self.touched.add(task.task_id)

    def _task_assigned(self, data: Data, event: Data) -> None:
        task = self.tasks[data["task_id"]]
        require(not task.completed, "a_completed_task_never_changes", data)
        if data["reason"] == "created":
            require(not task.assigned and task.assignee_id == data["assignee_id"], "created_with_an_assignee", data)
        else:
            require(data["previous_assignee_id"] == task.assignee_id, "hands_follow_hands", data)
        task.assigned, task.assignee_id = True, data["assignee_id"]
        self.pending[event["id"]] = ("fee", task.task_id, task.assignee_id, event["businessdate"])
        self.touched.add(task.task_id)

    def _task_completed(self, data: Data, event: Data) -> None:
        task = self.tasks[data["task_id"]]
        require(not task.completed, "completed_once", data)
        require(task.assignee_id == data["assignee_id"], "completed_by_the_holder", data)
        task.completed = True
        self.pending[event["id"]] = ("reward", task.task_id, task.assignee_id, event["businessdate"])
        self.touched.add(task.task_id)

    def _task_priced(self, data: Data, event: Data) -> None:
        task = self.tasks[data["task_id"]]
        fee, reward = data["fee_cents"], data["reward_cents"]
        require(task.price is None, "one_price_per_task", f"task #{task.number} was {task.price}, now {fee, reward}")
        require(1000 <= fee <= 2000 <= reward <= 4000 and fee % 100 == reward % 100 == 0, "price_in_bounds", data)
        task.price = (fee, reward)

    def _entry_posted(self, data: Data, event: Data) -> None:
        kind, who, cents, day = data["kind"], data["user_id"], data["amount_cents"], data["business_date"]
        require(day > self.last_closed, "nothing_into_a_closed_day", f"{kind} on {day}, closed {self.last_closed}")
        self.entries += 1
        if kind == "payout":
            self._paid(who, cents, day, event)
        elif kind in REVERSED:
            wrong = self.posted.pop(data["corrects"], None)
            told = (REVERSED[kind], who, cents, data["task_id"])
            require(wrong is not None and wrong[:4] == told, "a_reversal_mirrors_once", f"{data} of {wrong}")
            assert wrong is not None
            require(day >= wrong[4], "no_reversal_before_its_entry", f"{day}, its entry {wrong[4]}")
        else:
            cause = self.pending.pop(event["causationid"], None)
            require(cause is not None, "each_effect_once", f"{kind} of {event['causationid']} again or without cause")
            assert cause is not None
            require(cause[:3] == (kind, data["task_id"], who), "entry_as_its_cause", f"{data} for {cause}")
            counts_for = max(cause[3], self.first_open())
            require(day == counts_for, "entry_on_its_date", f"{kind} on {day}, it counts for {counts_for}")
            price = self.tasks[data["task_id"]].price
            require(price is not None, "priced_before_charged", data)
            assert price is not None
            require(cents == price[kind == "reward"], "entry_at_the_price", f"{data}, price {price}")
            self.posted[data["entry_id"]] = (kind, who, cents, data["task_id"], day)
        self._move(kind, who, cents, day)

    def _paid(self, who: str, cents: int, day: str, event: Data) -> None:
        ends = sum(moved for date, moved in self.by_day[who].items() if date <= day)
        require(cents == ends > 0, "a_payout_leaves_zero", f"{who} had {ends} at the end of {day}, paid {cents}")
        self.payouts[event["causationid"]] = (who, day, cents)

    def _move(self, kind: str, who: str, cents: int, day: str) -> None:
        sign = 1 if kind in {"reward", "fee_reversal"} else -1
        self.balances[who] += sign * cents
        self.balances[PAYOUTS if kind == "payout" else MANAGEMENT] -= sign * cents
        self.by_day[who][day] += sign * cents
        figures = self.days[day]
        figures[("fee", "reward", "payout").index(REVERSED.get(kind, kind))] += -cents if kind in REVERSED else cents
        figures[3] += kind == "payout"

    def _payout_made(self, data: Data, event: Data) -> None:
        told = (data["user_id"], data["business_date"], data["amount_cents"])
        require(self.payouts.pop(event["id"], None) == told, "payouts_told_once", data)

    def _day_ended(self, data: Data, event: Data) -> None:
        require(data["business_date"] > self.last_ended, "days_end_once", f"{data} after {self.last_ended}")
        self.last_ended = data["business_date"]

    def _day_closed(self, data: Data, event: Data) -> None:
        day = data["business_date"]
        require(day == self.last_ended, "a_day_is_ended_and_closed_in_one_step", f"{day}, ended {self.last_ended}")
        require(day > self.last_closed, "days_close_once", f"{day} after {self.last_closed}")
        told = [data["fees_cents"], data["rewards_cents"], data["payouts_cents"], data["paid_count"]]
        require(told == self.days[day], "days_as_their_entries", f"{data}, entries {self.days[day]}")
        ends = [sum(c for date, c in moved.items() if date <= day) for moved in self.by_day.values()]
        require(max(ends, default=0) <= 0, "positive_balances_were_paid", day)
        require(data["in_red_count"] == sum(end < 0 for end in ends), "in_the_red", data)
        require(not self.payouts, "payouts_told_once", self.payouts)
        self.last_closed = day
