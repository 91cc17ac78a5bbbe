"""The rules of money and days as pure functions: draws of prices, accounts of an entry, dates, figures of open days."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from popug_cli.kernel import text
from popug_cli.kernel.draws import draw_number
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound, Unavailable
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import EntryKind

MANAGEMENT = "management"
PAYOUTS = "payouts"
DEFAULT_INCOME_DAYS = 7
SEGMENT_ENTRIES = 8_192  # a trigger of migration 0013 sums up segments of this size
FEE_RANGE_CENTS = range(1_000, 2_001, 100)
REWARD_RANGE_CENTS = range(2_000, 4_001, 100)
REVERSALS = {EntryKind.FEE: EntryKind.FEE_REVERSAL, EntryKind.REWARD: EntryKind.REWARD_REVERSAL}


class DayMovement(NamedTuple):
    """The fees and rewards of one employee on an open business date.

    ``base_cents`` is the employee's balance at the end of the last closed day.
    """

    employee_id: str
    business_date: date
    fees_cents: int
    rewards_cents: int
    base_cents: int


class OpenFigures(NamedTuple):
    """The figures of an open day; ``in_red_count`` is the number of employees below zero at its end."""

    fees_cents: int = 0
    rewards_cents: int = 0
    in_red_count: int = 0


def draw_price_cents(seed: str, task_id: str) -> tuple[int, int]:
    """Return the fee and the reward of a task, each uniform over its range of whole dollars."""
    fee = FEE_RANGE_CENTS[draw_number(f"{seed}:{task_id}:fee", len(FEE_RANGE_CENTS))]
    reward = REWARD_RANGE_CENTS[draw_number(f"{seed}:{task_id}:reward", len(REWARD_RANGE_CENTS))]
    return fee, reward


def debit_and_credit(kind: EntryKind, employee_id: str) -> tuple[str, str]:
    """Return the account that an entry debits and the account that it credits."""
    counterpart = PAYOUTS if kind is EntryKind.PAYOUT else MANAGEMENT
    return (counterpart, employee_id) if kind.balance_sign > 0 else (employee_id, counterpart)


def reversal_of(kind: EntryKind, entry_id: str, *, is_corrected: bool) -> EntryKind:
    """Return the kind of the entry that reverses an entry of a kind. Raise ``not_correctable``."""
    reversal = REVERSALS.get(kind)
    if reversal is None or is_corrected:
        reason = "it is already reversed" if is_corrected else f"it is a {kind.replace('_', ' ')}"
        raise Conflict(
            "not_correctable",
            f"Entry {entry_id} cannot be corrected: {reason}.",
            hint="Only a fee or a reward can be reversed, and only once.",
            details={"entry_id": entry_id, "kind": kind.value},
        )
    return reversal


def validate_reason(reason: str) -> str:
    """Return the reason with each run of white space as one space. Raise ``invalid_reason``."""
    return text.validate_reason(reason, hint="Use --reason to say why the entry is wrong.")


def entry_not_found(entry_id: str) -> NotFound:
    """Return the error for an unknown entry id."""
    return NotFound(
        "entry_not_found",
        f"There is no entry {entry_id!r}.",
        hint="Run `popug statement --json` or `popug task show NUMBER --json` to see the ids of entries.",
        details={"entry_id": entry_id},
    )


def business_date(occurred_on: date, first_open_day: date) -> date:
    """Return the business date of a calendar date: the first open day if the date itself is closed."""
    return max(occurred_on, first_open_day)


def require_expected_payouts(expected_cents: int, payouts_cents: Sequence[int], closed: Sequence[date]) -> None:
    """Raise ``changed_meanwhile`` if the payouts of the days to close do not add up to what a user confirmed.

    ``payouts_cents`` has an amount for each day, and is empty if no day is open. ``closed`` are the days that this
    command has closed already.
    """
    total_cents = sum(payouts_cents)
    if payouts_cents and total_cents != expected_cents:
        was_closed = f" All days up to {closed[-1]} are closed now." if closed else " Nothing was closed."
        raise Conflict(
            "changed_meanwhile",
            f"The payouts would be {format_cents(total_cents)} now, not {format_cents(expected_cents)}.{was_closed}",
            hint="Run `popug close-day` again to see the new total.",
            details={"expected_cents": expected_cents, "payouts_cents": total_cents},
        )


def behind(day: date, event_id: str, *, is_set_aside: bool) -> Unavailable:
    """Return the error for a day that tasks has ended, if billing has not consumed its ``day_ended`` yet."""
    if is_set_aside:
        reason = f"billing failed on the event {event_id}, which ended the day, and has set it aside"
        hint = "Run `popug events dead`, repair the cause, and run `popug events retry`; then close the day again."
    else:
        reason = f"billing has not processed the event {event_id}, which ended the day"
        hint = "Run `popug close-day` again in a moment."
    return Unavailable(
        "behind",
        f"{day} cannot be closed now: {reason}.",
        hint=hint,
        details={"date": day.isoformat(), "event_id": event_id},
    )


def statement_range(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """Return the first and the last date of a statement. Raise ``invalid_range``.

    The first defaults to today, or to ``last`` if that is earlier. The last defaults to the end of the calendar,
    because what happens after today's close counts for a later date.
    """
    return _check_order(first or min(today, last or today), last or date.max)


def income_range(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """Return the first and the last date of an income report. Raise ``invalid_range``.

    By default the last date is today, or ``first`` if that is later; the first date is six days before the last.
    """
    end = last or max(today, first or today)
    return _check_order(first or _week_before(end), end)


def _week_before(last: date) -> date:
    return date.fromordinal(max(1, last.toordinal() - DEFAULT_INCOME_DAYS + 1))


def _check_order(first: date, last: date) -> tuple[date, date]:
    if first > last:
        raise InvalidInput(
            "invalid_range",
            f"The range begins on {first}, after its end on {last}.",
            hint="Give the earlier date to --from and the later one to --to.",
            details={"from": first.isoformat(), "to": last.isoformat()},
        )
    return first, last


def open_figures(movements: Iterable[DayMovement], in_red_before: int) -> dict[date, OpenFigures]:
    """Return the figures of each open day that has entries.

    ``movements`` are ordered by date, one per employee and date. ``in_red_before`` is the number of employees in the
    red at the end of the last closed day.
    """
    balances: dict[str, int] = {}
    days: dict[date, OpenFigures] = {}
    in_red = in_red_before
    for movement in movements:
        old_balance = balances.get(movement.employee_id, movement.base_cents)
        new_balance = old_balance + movement.rewards_cents - movement.fees_cents
        balances[movement.employee_id] = new_balance
        in_red += (new_balance < 0) - (old_balance < 0)
        day = days.get(movement.business_date, OpenFigures())
        days[movement.business_date] = OpenFigures(
            day.fees_cents + movement.fees_cents,
            day.rewards_cents + movement.rewards_cents,
            in_red,
        )
    return days


def day_by_day(
    days: Iterable[date], figures_by_day: Mapping[date, OpenFigures], in_red_before: int
) -> Iterator[tuple[date, OpenFigures]]:
    """Yield the figures of consecutive open days; a day without entries keeps the number of employees in the red.

    ``figures_by_day`` has the figures of every open day that has entries.
    """
    days_with_changes = sorted(figures_by_day)
    for day in days:
        index = bisect_right(days_with_changes, day)
        latest = days_with_changes[index - 1] if index else None
        if latest == day:
            yield day, figures_by_day[day]
        else:
            yield day, OpenFigures(in_red_count=figures_by_day[latest].in_red_count if latest else in_red_before)


def day_before(day: date) -> date | None:
    """Return the previous calendar date; None for ``date.min``."""
    return day - timedelta(days=1) if day > date.min else None
