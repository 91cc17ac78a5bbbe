"""Explain a figure: the entries that it sums up, their rules, and the events and draws that caused them.

``messages/company.py`` has the messages. ``causes.py`` looks up the causes of an entry in the log.
"""

from collections.abc import Iterable, Sequence
from datetime import date

from popug_cli.billing import days
from popug_cli.billing.balances import balance_at, find_account
from popug_cli.billing.causes import CauseLookup
from popug_cli.billing.day_figures import company_days
from popug_cli.billing.explained_entries import EntriesOfKind, entries_by_kind, latest_entries
from popug_cli.billing.queries import list_task_entries
from popug_cli.bus.context import Context
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.billing import DayClosed, Entry, ListTaskEntries
from popug_cli.messages.company import ExplainBalance, ExplainIncome, Explanation, ExplanationNode
from popug_cli.messages.internal.billing import ExplainTaskEntries

MAX_SHOWN_ENTRIES = 100


def explain_balance(message: ExplainBalance, context: Context) -> Explanation:
    """Explain a balance by that at the end of the last closed day and the entries since.

    Raise ``user_not_found``, or ``integrity`` if all entries fit into the explanation but do not sum to the balance.
    """
    account = find_account(message.username, context)
    closed = days.last_closed(context)
    base_cents = balance_at(account.account_id, closed, None, context)
    entries = latest_entries(account.account_id, closed, MAX_SHOWN_ENTRIES, context)
    rest_cents = account.balance_cents - base_cents - sum(entry.signed_cents for entry in entries)
    because = [
        *([_brought_forward_node(base_cents, closed, context)] if closed else []),
        *_earlier_entries_nodes(len(entries), rest_cents),
        *_entry_nodes(entries, CauseLookup(context), 1),
    ]
    return Explanation(account.balance_cents, because)


def explain_income(message: ExplainIncome, context: Context) -> Explanation:
    """Explain management's income of a date, today by default, by kind of entry; 0 outside the company's days.

    Raise ``integrity`` if all entries of a kind fit into the explanation but do not sum to its total.
    """
    day = message.day or context.calendar.date_of(context.now)
    days_of_company = company_days(day, day, None, context)
    figure_cents = days_of_company[0].income_cents if days_of_company else 0
    causes = CauseLookup(context)
    because = [_kind_node(entries, causes) for entries in entries_by_kind(day, MAX_SHOWN_ENTRIES, context)]
    if days_of_company and days_of_company[0].closed:
        because = [_closed_day_node(day, figure_cents, because, context)]
    return Explanation(figure_cents, because)


def explain_task_entries(message: ExplainTaskEntries, context: Context) -> Explanation:
    """Explain how a task changed the balances that the caller may see, by its entries and its price."""
    entries = list_task_entries(ListTaskEntries(task_id=message.task_id), context).entries
    causes = CauseLookup(context)
    price = causes.of_price(message.task_id)
    because = [*([price] if price else []), *_entry_nodes(entries, causes, 1)]
    return Explanation(sum(entry.signed_cents for entry in entries), because)


def _entry_nodes(entries: Iterable[Entry], causes: CauseLookup, sign: int) -> list[ExplanationNode]:
    return [causes.of_entry(entry, sign * entry.signed_cents) for entry in entries]


def _brought_forward_node(base_cents: int, closed: date, context: Context) -> ExplanationNode:
    return ExplanationNode(
        what=f"brought forward from the end of {closed}",
        because=[],
        amount_cents=base_cents,
        event_id=_day_closed_id(closed, context),
        rule="a closed day never changes; a positive balance at its end was paid out, a negative one is carried over",
    )


def _closed_day_node(day: date, figure_cents: int, because: list[ExplanationNode], context: Context) -> ExplanationNode:
    return ExplanationNode(
        what=f"recorded when {day} was closed",
        because=because,
        amount_cents=figure_cents,
        event_id=_day_closed_id(day, context),
        rule="a closed day never changes",
    )


def _day_closed_id(day: date, context: Context) -> str | None:
    events = context.log.by_subject(day.isoformat(), DayClosed)
    return events[0].id if events else None


def _kind_node(entries: EntriesOfKind, causes: CauseLookup) -> ExplanationNode:
    sign = entries.kind.fee_sign - entries.kind.reward_sign
    rest_cents = entries.amount_cents - sum(entry.amount_cents for entry in entries.latest)
    return ExplanationNode(
        what=counted(entries.entries_count, entries.kind.replace("_", " ")),
        because=[
            *_earlier_entries_nodes(len(entries.latest), sign * rest_cents),
            *_entry_nodes(entries.latest, causes, -1),
        ],
        amount_cents=sign * entries.amount_cents,
        rule="income is fees minus rewards, net of reversals; payouts are not part of it",
    )


def _earlier_entries_nodes(shown_count: int, rest_cents: int) -> Sequence[ExplanationNode]:
    """Return the node, if one is needed, that sums up all entries before those that are shown.

    If fewer than ``MAX_SHOWN_ENTRIES`` are shown, there are no others. Raise ``integrity`` if they do not sum to the
    figure then.
    """
    if shown_count < MAX_SHOWN_ENTRIES:
        if rest_cents:
            raise IntegrityViolation(
                "integrity",
                f"The entries do not sum to the figure: {format_cents(rest_cents)} cannot be explained.",
                hint="Run `popug doctor` to see all violations.",
                details={"difference_cents": rest_cents},
            )
        return []
    what = f"all entries before the last {shown_count}; `popug statement` lists them"
    return [ExplanationNode(what=what, because=[], amount_cents=rest_cents)]
