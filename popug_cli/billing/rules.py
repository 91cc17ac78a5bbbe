"""The rules of money and days: pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from popug_cli.kernel import text
from popug_cli.kernel.draws import draw_number
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound
from popug_cli.messages.billing import EntryKind

MANAGEMENT = "management"
PAYOUTS = "payouts"
DAYS_AT_ONCE = 31
INCOME_DAYS = 7
SEGMENT_ENTRIES = 1_024  # a trigger of migration 0008 sums up segments of this size
FEE_RANGE_CENTS = range(1_000, 2_001, 100)
REWARD_RANGE_CENTS = range(2_000, 4_001, 100)
REVERSALS = {EntryKind.FEE: EntryKind.FEE_REVERSAL, EntryKind.REWARD: EntryKind.REWARD_REVERSAL}


class DayMovement(NamedTuple):
    """What one employee's entries of an open business date come to.

    ``base_cents`` is the employee's balance at the end of the last closed day.
    """

    employee_id: str
    business_date: date
    fees_cents: int
    rewards_cents: int
    base_cents: int


class OpenFigures(NamedTuple):
    """The figures of an open day; ``in_red_count`` is at its end."""

    fees_cents: int = 0
    rewards_cents: int = 0
    in_red_count: int = 0


def draw_price_cents(seed: str, task_id: str) -> tuple[int, int]:
    """Return the fee and the reward of a task, each uniform over its range of whole dollars."""
    fee = FEE_RANGE_CENTS[draw_number(f"{seed}:{task_id}:fee", len(FEE_RANGE_CENTS))]
    reward = REWARD_RANGE_CENTS[draw_number(f"{seed}:{task_id}:reward", len(REWARD_RANGE_CENTS))]
    return fee, reward


def debit_and_credit(kind: EntryKind, employee_id: str) -> tuple[str, str]:
    """The account that an entry debits, and the account that it credits."""
    counterpart = PAYOUTS if kind is EntryKind.PAYOUT else MANAGEMENT
    return (counterpart, employee_id) if kind.balance_sign > 0 else (employee_id, counterpart)


def reversal_of(kind: EntryKind, entry_id: str, *, is_corrected: bool) -> EntryKind:
    """The kind of the entry that corrects one; raises ``not_correctable``."""
    reversal = REVERSALS.get(kind)
    if reversal is None or is_corrected:
        why = "it is reversed already" if is_corrected else f"it is a {kind.replace('_', ' ')}"
        raise Conflict(
            "not_correctable",
            f"The entry {entry_id} cannot be corrected: {why}.",
            hint="Only a fee or a reward can be reversed, and that once.",
            details={"entry_id": entry_id, "kind": kind.value},
        )
    return reversal


def validate_reason(reason: str) -> str:
    """Return why an entry is corrected, as one line; raise ``invalid_reason``."""
    return text.validate_reason(reason, hint="Say with --reason why the entry is wrong.")


def entry_not_found(entry_id: str) -> NotFound:
    """There is no such entry."""
    return NotFound(
        "entry_not_found",
        f"There is no entry {entry_id!r}.",
        hint="Run `popug statement --json` or `popug task show NUMBER --json` for the ids of entries.",
        details={"entry_id": entry_id},
    )


def business_date(occurred_on: date, first_open_day: date) -> date:
    """The date under which something is entered that occurred on a calendar date: closed days never change."""
    return max(occurred_on, first_open_day)


def validate_close_date(asked: date, today: date, first_day: date | None) -> None:
    """Refuse to close a day that is not over yet by any clock, or that was before the company."""
    if asked > today:
        raise InvalidInput(
            "future_date",
            f"{asked} is in the future; today is {today}.",
            hint="Close today with `popug close-day`.",
            details={"date": asked.isoformat(), "today": today.isoformat()},
        )
    if first_day is None or asked < first_day:
        began = f"The company's first day is {first_day}" if first_day else "The company has no day yet"
        raise InvalidInput(
            "before_first_day",
            f"{began}; {asked} is before it.",
            hint="Run `popug income` for the days that there are.",
            details={"date": asked.isoformat(), "first_day": first_day.isoformat() if first_day else None},
        )


def nonexistent_day(asked: date, time_zone: str) -> InvalidInput:
    """The zone went from the day before to the day after (Pacific/Apia in 2011)."""
    return InvalidInput(
        "no_such_day",
        f"There was no {asked} in {time_zone}.",
        hint="Close the day before or the day after it.",
        details={"date": asked.isoformat(), "time_zone": time_zone},
    )


def check_days_at_once(days_count: int, *, confirmed: bool) -> None:
    """Refuse to close a great many days by accident; a clock may have jumped."""
    if days_count > DAYS_AT_ONCE and not confirmed:
        raise InvalidInput(
            "needs_yes",
            f"This closes {days_count:,} days at once, more than {DAYS_AT_ONCE}.",
            hint="Check the clock, then give --yes to say that you mean it.",
            details={"days": days_count},
        )


def statement_range(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The dates of a statement: today's where none is given, the one that is given where one is beyond today."""
    found_first = first or min(today, last or today)
    return _check_order(found_first, last or max(today, found_first))


def income_range(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The dates of an income: a week up to today where none is given."""
    found_last = last or max(today, first or today)
    return _check_order(first or _week_before(found_last), found_last)


def _week_before(last: date) -> date:
    return date.fromordinal(max(1, last.toordinal() - INCOME_DAYS + 1))


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
    """The figures of each open day on which something moved.

    ``movements`` come by date, one for each employee and date; ``in_red_before`` is the number of people in the red at
    the end of the last closed day.
    """
    balances: dict[str, int] = {}
    days: dict[date, OpenFigures] = {}
    in_red = in_red_before
    for movement in movements:
        before = balances.get(movement.employee_id, movement.base_cents)
        after = before + movement.rewards_cents - movement.fees_cents
        balances[movement.employee_id] = after
        in_red += (after < 0) - (before < 0)
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
    """The figures of each of some open days in a row; on a day on which nothing moved the people in the red stay there.

    ``figures_by_day`` are the figures of all open days on which something moved, by date.
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
    """The calendar date before; None where there is none."""
    return day - timedelta(days=1) if day > date.min else None
