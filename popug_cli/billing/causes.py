"""The causes of an entry: its rule, the event that caused it, the causes of that event, and their draws."""

from collections.abc import Callable
from typing import Any

import msgspec

from popug_cli.billing.balances import usernames
from popug_cli.billing.rules import FEE_RANGE_CENTS, REWARD_RANGE_CENTS
from popug_cli.bus.context import Context
from popug_cli.bus.queries import list_events, show_event
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.errors import NotFound
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import Entry, EntryCorrected, EntryKind, TaskPriced
from popug_cli.messages.bus import ListEvents, ShowEvent
from popug_cli.messages.company import ExplanationNode

MAX_CAUSE_DEPTH = 16
RULES = {
    EntryKind.FEE: "each assignment charges the task's fee to the assignee",
    EntryKind.REWARD: "a completion credits the task's reward to the assignee",
    EntryKind.PAYOUT: "the close of a day pays out each positive balance in full",
    EntryKind.FEE_REVERSAL: "a correction reverses a fee in the open day",
    EntryKind.REWARD_REVERSAL: "a correction reverses a reward in the open day",
}
# A phrase gets the data of the event, and a function that returns a user's name.
PHRASES: dict[str, Callable[[dict[str, Any], Callable[[str], str]], str]] = {
    "task_assigned": lambda data, name: f"assigned to {name(data['assignee_id'])} ({data['reason']})",
    "task_created": lambda data, name: f"created by {name(data['creator_id'])}",
    "task_completed": lambda data, name: f"completed by {name(data['assignee_id'])}",
    "shuffle_requested": lambda data, name: f"shuffle requested by {name(data['requested_by'])}",
    "user_role_changed": lambda data, name: f"{name(data['user_id'])} became {data['new_role']}",
    "user_deactivated": lambda data, name: f"{name(data['user_id'])} was deactivated",
    "payout_made": lambda data, name: f"{name(data['user_id'])} was paid for {data['business_date']}",
    "entry_posted": lambda data, _: f"the corrected {data['kind']} of {format_cents(data['amount_cents'])}",
}


class CauseLookup:
    """Looks up causes on one snapshot, and caches users, prices and events."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._usernames: dict[str, str] = {}
        self._prices: dict[str, ExplanationNode | None] = {}
        self._events: dict[str, dict[str, Any] | None] = {}

    def of_entry(self, entry: Entry, amount_cents: int) -> ExplanationNode:
        """Return the node of an entry, with its rule and its causes.

        A fee or a reward also has the price of its task, a reversal also the corrections of the reversed entry.
        """
        task = f" of #{entry.task.number} {entry.task.title}" if entry.task else ""
        event = self._event(entry.event_id)
        because = [self._event_node(event, entry.event_id, MAX_CAUSE_DEPTH)]
        if entry.kind in {EntryKind.FEE, EntryKind.REWARD} and event and (price := self.of_price(event["subject"])):
            because.append(price)
        if entry.kind in {EntryKind.FEE_REVERSAL, EntryKind.REWARD_REVERSAL} and event:
            because += self._corrections(event["data"]["entry_id"])
        return ExplanationNode(
            what=f"{entry.kind.replace('_', ' ')}{task}, {entry.business_date}",
            because=because,
            amount_cents=amount_cents,
            entry_id=entry.entry_id,
            event_id=entry.event_id,
            rule=RULES[entry.kind],
            occurred_at=entry.occurred_at,
            recorded_at=entry.recorded_at if entry.recorded_at != entry.occurred_at else None,
        )

    def of_price(self, task_id: str) -> ExplanationNode | None:
        """Return the node of a task's price, with its draw; None if the task has no price yet."""
        if task_id not in self._prices:
            self._prices[task_id] = self._price(task_id)
        return self._prices[task_id]

    def _price(self, task_id: str) -> ExplanationNode | None:
        """Look up the ``task_priced`` of a task, which is fast because it is among the first events of its subject."""
        query = ListEvents(subject=task_id, type=TaskPriced.TYPE, limit=1)
        for event in list_events(query, self._context).events:
            priced = msgspec.convert(event["data"], TaskPriced)
            fee, reward = format_cents(priced.fee_cents), format_cents(priced.reward_cents)
            return ExplanationNode(
                what=f"priced: fee {fee}, reward {reward}",
                because=[_draw_of_price(priced)],
                event_id=event["id"],
                rule=f"fee of {_bounds(FEE_RANGE_CENTS)}, reward of {_bounds(REWARD_RANGE_CENTS)}, in whole dollars,"
                " drawn once and never changed",
                occurred_at=from_rfc3339(event["time"]),
            )
        return None

    def _corrections(self, entry_id: str) -> list[ExplanationNode]:
        return [
            ExplanationNode(what=f"corrected by {event.actor}: {event.data.reason}", because=[], event_id=event.id)
            for event in self._context.log.by_subject(entry_id, EntryCorrected)
            if isinstance(event.data, EntryCorrected)
        ]

    def _event(self, event_id: str) -> dict[str, Any] | None:
        if event_id not in self._events:
            try:
                self._events[event_id] = show_event(ShowEvent(event_id=event_id), self._context)
            except NotFound:
                self._events[event_id] = None
        return self._events[event_id]

    def _event_node(self, event: dict[str, Any] | None, event_id: str, depth: int) -> ExplanationNode:
        """Return the node of an event with its draw and its causes, at most ``depth`` of them in a row."""
        if event is None:
            return ExplanationNode(what="an event that is not in the log", because=[], event_id=event_id)
        data = event["data"]
        because = [_draw_of_assignee(data)] if "draw" in data else []
        cause_id = event.get("causationid")
        if cause_id and depth:
            because.append(self._event_node(self._event(cause_id), cause_id, depth - 1))
        event_name = event["type"].split(".")[2]
        phrase = PHRASES.get(event_name)
        what = phrase(data, self._username) if phrase else event_name.replace("_", " ")
        return ExplanationNode(what=what, because=because, event_id=event_id, occurred_at=from_rfc3339(event["time"]))

    def _username(self, user_id: str) -> str:
        if user_id not in self._usernames:
            self._usernames |= usernames([user_id], self._context)
        return self._usernames[user_id]


def _bounds(cents: range) -> str:
    return f"{format_cents(cents[0])} to {format_cents(cents[-1])}"


def _draw_of_assignee(data: dict[str, Any]) -> ExplanationNode:
    draw, shuffle_id = data["draw"], data.get("shuffle_id")
    check = f"`popug tasks verify {shuffle_id}`" if shuffle_id else "`popug ledger verify`"
    return ExplanationNode(
        what=f"drawn by {draw['algorithm']} from the seed {draw['seed']}, among all users who were assignable as of"
        f" position {draw['candidates_as_of']} of the log",
        because=[],
        rule=f"the SHA-256 of seed:task, modulo the number of candidates; {check} repeats the draw",
    )


def _draw_of_price(priced: TaskPriced) -> ExplanationNode:
    return ExplanationNode(
        what=f"drawn by {priced.draw.algorithm} from the seed {priced.draw.seed}",
        because=[],
        rule="the SHA-256 of seed:task:fee and seed:task:reward, modulo the number of prices",
    )
