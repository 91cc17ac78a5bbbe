"""The recorded results of one working day, and the arithmetic that says what they must be."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.support.installed_company import Company, Json, Result

ASSIGNABLE = ("asya", "gosha", "kesha")

Line = tuple[str, int, int]  # kind of the entry, number of the task, cents


@dataclass
class Day:
    """The recorded results of the day so far."""

    company: Company
    today: str
    created: list[Json] = field(default_factory=list)
    charged: list[tuple[str, int]] = field(default_factory=list)  # (assignee, number) of each assignment
    completed: list[tuple[str, int]] = field(default_factory=list)
    tasks: list[Json] = field(default_factory=list)

    def look(self) -> list[Json]:
        """Return the tasks as they are now."""
        self.tasks = self.company.tasks()
        return self.tasks

    def expect_lines(self, name: str) -> Counter[Line]:
        """Return the expected entries of a user: from assignments, completions and prices."""
        prices = {task["number"]: task for task in self.tasks}
        fees = [("fee", number, prices[number]["fee_cents"]) for who, number in self.charged if who == name]
        rewards = [("reward", n, prices[n]["reward_cents"]) for who, n in self.completed if who == name]
        return Counter(fees + rewards)

    def expect_balance(self, name: str) -> int:
        """Rewards less fees, before any payout."""
        return sum(cents if kind == "reward" else -cents for kind, _, cents in self.expect_lines(name).elements())

    def expect_paid(self) -> dict[str, int]:
        """Return the expected payouts of the evening by user."""
        return {name: balance for name in ASSIGNABLE if (balance := self.expect_balance(name)) > 0}

    def expect_in_red(self) -> list[str]:
        """Return the users with a debt."""
        return [name for name in ASSIGNABLE if self.expect_balance(name) < 0]

    def expect_fees(self) -> int:
        """Return all fees of the day."""
        return self._total("fee")

    def expect_rewards(self) -> int:
        """Return all rewards of the day."""
        return self._total("reward")

    def _total(self, wanted: str) -> int:
        lines = [line for name in ASSIGNABLE for line in self.expect_lines(name).elements()]
        return sum(cents for kind, _, cents in lines if kind == wanted)


@dataclass
class Shuffled:
    """A shuffle that took a task from a user, and that user's attempt to complete it."""

    before: list[Json]
    answer: Json
    after: list[Json]
    verified: Json
    taken: Json
    loser: str
    refusal: Result
    afterwards: list[Json]


@dataclass
class Worked:
    """The state at the end of the work."""

    answers: list[Json]
    twice: Result
    twice_by: str
    statements: dict[str, Json]
    balances: dict[str, Json]
    income: Json
    analytics: Json
    doctor: Json


@dataclass
class Closed:
    """The state after the day was closed twice."""

    answer: Json
    statements: dict[str, Json]
    income: Json
    analytics: Json
    mails: list[Any]
    again: Json
    statements_again: dict[str, Json]
    income_again: Json
    mails_again: list[Any]
    doctor: Json


def statements_of(company: Company, names: Iterable[str]) -> dict[str, Json]:
    """Today's statements, as the accountant sees them."""
    asked = list(names)
    return dict(zip(asked, company.ask_all(("asya", ("statement", name)) for name in asked), strict=True))
