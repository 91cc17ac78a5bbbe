"""Check the history of a chaos run against the rules of the game. This file imports nothing of popug.

python -m tests.cluster.checker HISTORY.jsonl

The ledger that the last observation of a drained cluster shows is the order of all operations that explains the rest:
each balance that a client read must be that of a prefix of the ledger. The prefix has at least what the same client
read or was acknowledged before (unless the answer carried a warning), and nothing that was begun after the answer.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

SIGNS = {"fee": -1, "reward": 1, "payout": -1, "fee_reversal": 1, "reward_reversal": -1}
INCOME = {"fee": 1, "reward": -1, "payout": 0, "fee_reversal": -1, "reward_reversal": 1}
NEVER = float("inf")
Line = dict[str, Any]


class Operation:
    """An operation of a client: when it began and ended, and its outcome: ok, refused, doubt (or no answer yet)."""

    def __init__(self, invoked: dict[str, Any], done: dict[str, Any] | None) -> None:
        done = done or {"event": "doubt"}
        self.client, self.op, self.args = invoked["client"], invoked["op"], invoked["args"]
        self.invoked, self.date_before = invoked["at"], invoked["date"]
        self.outcome: str = done["event"]
        self.completed: float = done["at"] if self.outcome != "doubt" else NEVER
        self.date_after: str = done.get("date", "9999-12-31")
        self.answer: Any = done.get("answer")
        self.is_warned = bool(done.get("warnings"))

    @property
    def may_have_happened(self) -> bool:
        """Return whether it was acknowledged or is in doubt."""
        return self.outcome in ("ok", "doubt")

    def __repr__(self) -> str:
        return f"{self.client} {self.op} {self.args} at {self.invoked}: {self.outcome}"


class History:
    """The operations until the last observation of the drained cluster, which must follow on all that it explains."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        last = max(index for index, each in enumerate(documents) if each["event"] == "final")
        documents = documents[: last + 1]
        done = {each["id"]: each for each in documents if each["event"] in ("ok", "refused", "doubt")}
        self.operations = [Operation(each, done.get(each["id"])) for each in documents if each["event"] == "invoke"]
        self.observations = [each for each in documents if each["event"] == "final"]
        self.final = self.observations[-1]
        self.ledger: list[Line] = self.final["ledger"]
        self._by_subject: defaultdict[tuple[str, Any], list[Operation]] = defaultdict(list)
        for operation in self.operations:
            for subject in _subjects(operation):
                self._by_subject[operation.op, subject].append(operation)
        self.causes = [self._cause(line) for line in self.ledger]

    def of(self, *names: str) -> list[Operation]:
        """Return the operations of some kinds."""
        return [each for each in self.operations if each.op in names]

    def reason(self, line: Line) -> tuple[str, str | None]:
        """Return why a fee was charged: created, shuffled or assignee_left, and the shuffle."""
        assigned = self.final["assigned"].get(line["event_id"], {"reason": "unknown", "shuffle_id": None})
        return assigned["reason"], assigned["shuffle_id"]

    def _cause(self, line: Line) -> Operation | None:
        """Return the one operation that caused a line, or None if several or no acknowledged ones may have."""
        task = line["task"] or {}
        key: tuple[str, Any] = ("", None)
        if line["kind"] == "fee" and self.reason(line)[0] == "created":
            key = ("add", task["title"])
        elif line["kind"] == "fee" and self.reason(line)[0] == "shuffled":
            key = ("shuffle", self.reason(line)[1])
        elif line["kind"] == "reward":
            key = ("complete", task["number"])
        elif line["kind"] in ("fee_reversal", "reward_reversal"):
            key = ("correct", line["corrects"])
        elif line["kind"] == "payout":
            key = ("close", line["business_date"])
        candidates = self._by_subject[key]
        certain = [each for each in candidates if each.outcome == "ok"]
        possible = certain or [each for each in candidates if each.outcome == "doubt"]
        return possible[0] if len(possible) == 1 else None


def _subjects(operation: Operation) -> list[Any]:
    """Return the subjects by which the entries that an operation causes are recognised."""
    if operation.op == "close":
        return [*_closed_by(operation)]
    if operation.op == "shuffle":
        return [operation.answer["shuffle_id"]] if operation.answer else []
    return [operation.args[name] for name in ("title", "number", "entry_id") if name in operation.args]


def check_money(history: History) -> Iterator[str]:
    """Bank test: balances, payouts and the company's income sum to zero, and balances are those of the ledger."""
    balances: Counter[str] = Counter()
    for line in history.ledger:
        balances[line["person"]] += SIGNS[line["kind"]] * line["amount_cents"]
    read = history.final["balances"]
    for person in balances:
        if balances[person] != read[person]:
            yield f"{person} has {read[person]}, and the entries sum to {balances[person]}"
    income = sum(INCOME[line["kind"]] * line["amount_cents"] for line in history.ledger)
    payouts = sum(line["amount_cents"] for line in history.ledger if line["kind"] == "payout")
    if total := sum(read.values()) + payouts + income:
        yield f"balances, payouts and income sum to {total}"


def check_append_only(history: History) -> Iterator[str]:
    """Each observation's ledger begins with the ledger of the one before."""
    for before, after in zip(history.observations, history.observations[1:], strict=False):
        ids = [[line["entry_id"] for line in each["ledger"]] for each in (before, after)]
        if ids[0] != ids[1][: len(ids[0])]:
            yield f"entries of the observation at {before['at']} are missing or changed later"


def check_tasks(history: History) -> Iterator[str]:
    """Each acknowledged task exists once, with one fee for its creation; a refused one does not exist."""
    titles = Counter(task["title"] for task in history.final["tasks"])
    adds = {each.args["title"]: each for each in history.of("add")}
    created = Counter(
        line["task"]["title"] for line in history.ledger
        if line["kind"] == "fee" and history.reason(line)[0] == "created"
    )  # fmt: skip
    for title, operation in adds.items():
        expected = {"ok": (1,), "doubt": (0, 1), "refused": (0,)}[operation.outcome]
        if titles[title] not in expected:
            yield f"{operation}: {titles[title]} tasks exist"
    for title in titles:
        if title not in adds:
            yield f"no operation added the task {title!r}"
        if created[title] != 1:
            yield f"the task {title!r} has {created[title]} fees for its creation"


def check_effects(history: History) -> Iterator[str]:
    """Each acknowledged completion, correction and shuffle has its entries exactly once, and no entry has no cause."""
    rewards = Counter(line["task"]["number"] for line in history.ledger if line["kind"] == "reward")
    reversed_ids = Counter(line["corrects"] for line in history.ledger if line["corrects"])
    for found, name, key in ((rewards, "complete", "number"), (reversed_ids, "correct", "entry_id")):
        possible = {each.args[key] for each in history.of(name) if each.may_have_happened}
        for operation in history.of(name):
            if operation.outcome == "ok" and found[operation.args[key]] != 1:
                yield f"{operation}: {found[operation.args[key]]} entries"
        for subject, count in found.items():
            if count > 1 or subject not in possible:
                yield f"{count} entries of {name} {subject}, which {'was' if subject in possible else 'was not'} done"
    shuffled = Counter(history.reason(line)[1] for line in history.ledger if line["kind"] == "fee")
    known = {each.answer["shuffle_id"]: each for each in history.of("shuffle") if each.answer}
    for shuffle, operation in known.items():
        if shuffled[shuffle] != operation.answer["task_count"]:
            yield f"{operation}: {shuffled[shuffle]} fees of {operation.answer['task_count']}"
    in_doubt = sum(each.outcome == "doubt" for each in history.of("shuffle"))
    if len(strange := set(shuffled) - set(known) - {None}) > in_doubt:
        yield f"shuffles {strange} have fees, and {in_doubt} are in doubt"


def check_reads(history: History) -> Iterator[str]:
    """Each read shows a prefix of the ledger that is long enough and not too long for its client."""
    persons: defaultdict[str, list[int]] = defaultdict(list)
    for position, line in enumerate(history.ledger):
        persons[line["person"]].append(position)
    begun = [each.invoked if each else 0.0 for each in history.causes]
    latest = list(accumulate(begun, max))
    own: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for position, cause in enumerate(history.causes):
        if cause and cause.outcome == "ok":
            own[cause.client].append((cause.completed, position + 1))
    seen: defaultdict[str, int] = defaultdict(int)
    for read in sorted(history.of("balance", "statement"), key=lambda each: each.invoked):
        if read.outcome != "ok":
            continue
        acknowledged = max((end for at, end in own[read.client] if at < read.invoked), default=0)
        low = 0 if read.is_warned else max(seen[read.client], acknowledged)
        high = sum(at < read.completed for at in latest)
        found = _prefix(history.ledger, persons[read.args["username"]], read, low, high)
        if found is None:
            yield f"{read}: {_shown(read)} is not that of a prefix of {low} to {high} entries"
        elif not read.is_warned:
            seen[read.client] = found


def _prefix(ledger: list[Line], positions: list[int], read: Operation, low: int, high: int) -> int | None:
    """Return the length of the shortest prefix, of at least ``low`` entries, that a read can have seen."""
    balance, ids = 0, set()
    shown = {entry["entry_id"] for entry in read.answer["entries"]} if read.op == "statement" else None
    for start, end in zip([0, *(each + 1 for each in positions)], [*positions, NEVER], strict=True):
        if start:
            line = ledger[start - 1]
            balance += SIGNS[line["kind"]] * line["amount_cents"]
            ids.add(line["entry_id"])
        fits = shown in (None, ids) and balance == _shown(read)
        if fits and end >= low and max(start, low) <= high:
            return max(start, low)
    return None


def _shown(read: Operation) -> int:
    cents: int = read.answer["balance_cents" if read.op == "balance" else "closing_balance_cents"]
    return cents


def check_closes(history: History) -> Iterator[str]:
    """A close is a cut: it pays what was acknowledged before it, and nothing later is entered into its days."""
    for close in history.of("close"):
        for day in _closed_by(close).values():
            yield from _check_closed(history.ledger, close, day)
    successful = [each for each in history.of("close") if each.outcome == "ok"]
    attempts = [each for each in history.of("close") if each.may_have_happened]
    for line, cause in zip(history.ledger, history.causes, strict=True):
        if cause is None or cause.op not in ("add", "complete", "shuffle"):
            continue
        day = line["business_date"]
        for close in successful:
            if close.completed < cause.invoked and day <= close.args["day"]:
                yield f"{cause} is entered at {day}, after {close}"
        before = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        is_put_off = any(each.args["day"] >= before and each.invoked < cause.completed for each in attempts)
        if not cause.date_before <= day or (day > cause.date_after and not is_put_off):
            yield f"{cause} is entered at {day}, though that day was not open at {cause.date_after}"


def _check_closed(ledger: list[Line], close: Operation, day: dict[str, Any]) -> Iterator[str]:
    """Check the figures of a day that a close has closed."""
    own = [(position, line) for position, line in enumerate(ledger) if line["business_date"] == day["business_date"]]
    payouts = [(line["person"], line["amount_cents"]) for _, line in own if line["kind"] == "payout"]
    if sorted(payouts) != sorted((each["username"], each["amount_cents"]) for each in day["payouts"]):
        yield f"{close} answered other payouts than those of the ledger: {payouts}"
    income = sum(INCOME[line["kind"]] * line["amount_cents"] for _, line in own)
    if income != day["income_cents"]:
        yield f"{close} answered an income of {day['income_cents']}, and the entries have {income}"
    paid_at = max((position for position, line in own if line["kind"] == "payout"), default=None)
    until = [(position, line) for position, line in enumerate(ledger) if line["business_date"] <= day["business_date"]]
    if paid_at is not None and until[-1][0] > paid_at:
        yield f"{until[-1][1]} is entered after the payouts of {close}"
    for person, _ in payouts:
        if left := sum(SIGNS[line["kind"]] * line["amount_cents"] for _, line in until if line["person"] == person):
            yield f"{close} left {person} with {left}"


def _closed_by(close: Operation) -> dict[str, dict[str, Any]]:
    """Return the days that a close has closed itself, by date."""
    if close.outcome != "ok":
        return {}
    return {day["business_date"]: day for day in close.answer["days"] if not day["already_closed"]}


CHECKS = (check_money, check_append_only, check_tasks, check_effects, check_reads, check_closes)


def check(documents: list[dict[str, Any]]) -> list[str]:
    """Return all violations of a history, each with the name of its check."""
    history = History(documents)
    return [f"{each.__name__}: {problem}" for each in CHECKS for problem in each(history)]


def check_file(path: Path) -> list[str]:
    """Return all violations of the history in a file."""
    return check([json.loads(line) for line in path.read_bytes().splitlines()])


if __name__ == "__main__":
    problems = check_file(Path(sys.argv[1]))
    print("\n".join(problems) or "The history is explained.")  # noqa: T201 - the output of a program
    sys.exit(bool(problems))
