"""The ledger in the formats of other programs: hledger, beancount, CSV. A positive amount is owed to the account.

Entries come in the order of recording, under their business dates. After them, the balance of each account at the end
of each day follows as an assertion. Titles are escaped as each format requires.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from enum import StrEnum
from io import StringIO
from itertools import groupby

from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.text import escape_hidden
from popug_cli.messages.billing import DayEnd, LedgerLine

HEADER = "The ledger of a popug company; amounts as in popug: a positive amount is owed to the account."
CSV_COLUMNS = (
    *("record", "business_date", "account", "other_account", "kind", "side", "amount_cents", "task_number"),
    *("task_title", "entry_id", "event_id", "occurred_at", "recorded_at", "corrects"),
)
RECORDED_METADATA = '  recorded: "{}"\n'
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


class JournalFormat(StrEnum):
    """The program whose format a journal has."""

    HLEDGER = "hledger"
    BEANCOUNT = "beancount"
    CSV = "csv"


def hledger(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a journal for hledger: https://hledger.org/hledger.html#journal."""
    yield f"; {HEADER}\ncommodity $1000.00\n"
    for line in lines:
        yield (
            f"\n{line.business_date} * {_title(line).replace(';', ',')}\n"
            f"    ; entry {_safe_id(line.entry_id)}, event {_safe_id(line.event_id)}\n"
            f"    ; occurred {to_rfc3339(line.occurred_at)}{_recorded_text(line, ', recorded {}')}\n"
            f"    people:{line.person}  ${_dollars(line.signed_cents)}\n"
            f"    {line.other_account}  ${_dollars(-line.signed_cents)}\n"
        )
    for (name, is_person), account_ends in groupby(ends, lambda end: (end.account, end.is_person)):
        account = f"people:{name}" if is_person else name
        yield f"\naccount {account}\n"
        for end in account_ends:
            yield f"\n{end.business_date} * end of the day\n    {account}  $0.00 = ${_dollars(end.balance_cents)}\n"


def beancount(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a journal for beancount. Its balances hold at the beginning of a date, so they have the date after."""
    yield f'; {HEADER}\noption "title" "popug"\noption "operating_currency" "USD"\n'
    for line in lines:
        yield (
            f'\n{line.business_date} * "{_quoted(_title(line))}"\n'
            f'  entry: "{line.entry_id}"\n  event: "{_quoted(line.event_id)}"\n'
            f'  occurred: "{to_rfc3339(line.occurred_at)}"\n{_recorded_text(line, RECORDED_METADATA)}'
            f"  {_bean_account(line.person, is_person=True)}  {_dollars(line.signed_cents)} USD\n"
            f"  {_bean_account(line.other_account, is_person=False)}  {_dollars(-line.signed_cents)} USD\n"
        )
    for (name, is_person), account_ends in groupby(ends, lambda end: (end.account, end.is_person)):
        account = _bean_account(name, is_person=is_person)
        for number, end in enumerate(account_ends):
            if number == 0:
                yield f'\n{end.business_date} open {account} USD\n  name: "{_quoted(name)}"\n'
            if end.business_date < date.max:
                next_day = end.business_date + timedelta(days=1)
                yield f"{next_day} balance {account}  {_dollars(end.balance_cents)} ~ 0.00 USD\n"


def comma_separated(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a header, then rows ``entry`` and ``balance``; amounts are positive cents, ``side`` is debit or credit."""
    yield _csv_row(CSV_COLUMNS)
    for line in lines:
        task = (str(line.task.number), line.task.title) if line.task else ("", "")
        yield _csv_row(
            (
                *("entry", str(line.business_date), line.person, line.other_account, line.kind),
                *(_side(line.signed_cents), str(line.amount_cents), *task, line.entry_id, line.event_id),
                *(to_rfc3339(line.occurred_at), to_rfc3339(line.recorded_at), line.corrects or ""),
            )
        )
    for end in ends:
        amount = (_side(end.balance_cents), str(abs(end.balance_cents)))
        yield _csv_row(("balance", str(end.business_date), end.account, "", "", *amount, *[""] * 7))


Writer = Callable[[Iterable[LedgerLine], Iterable[DayEnd]], Iterator[str]]
WRITERS: dict[JournalFormat, Writer] = {
    JournalFormat.HLEDGER: hledger,
    JournalFormat.BEANCOUNT: beancount,
    JournalFormat.CSV: comma_separated,
}


def _title(line: LedgerLine) -> str:
    kind = line.kind.replace("_", " ")
    return escape_hidden(f"{kind} #{line.task.number} {line.task.title}" if line.task else kind)


def _recorded_text(line: LedgerLine, template: str) -> str:
    """Return ``template`` with the time of recording, or nothing if the entry was recorded when it occurred."""
    return template.format(to_rfc3339(line.recorded_at)) if line.recorded_at != line.occurred_at else ""


def _safe_id(identifier: str) -> str:
    """Return an id without characters that could end a comment."""
    return re.sub("[^A-Za-z0-9-]", "?", identifier)


def _dollars(cents: int) -> str:
    dollars, remainder = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{dollars}.{remainder:02}"


def _quoted(text: str) -> str:
    return escape_hidden(text).replace("\\", "\\\\").replace('"', '\\"')


def _bean_account(name: str, *, is_person: bool) -> str:
    """Return a unique account name. beancount allows letters, digits and hyphens, so a hyphen begins an escape."""
    escaped = name.replace("-", "--").replace(".", "-d").replace("_", "-u")
    return ("Liabilities:People:" if is_person else "Equity:") + escaped[:1].upper() + escaped[1:]


def _side(cents: int) -> str:
    return "credit" if cents >= 0 else "debit"


def _csv_row(cells: Iterable[str]) -> str:
    row = StringIO()
    csv.writer(row, lineterminator="\n").writerow([_escape_formula(cell) for cell in cells])
    return row.getvalue()


def _escape_formula(cell: str) -> str:
    """Return a cell that no spreadsheet reads as a formula."""
    text = escape_hidden(cell)
    return f"'{text}" if text.lstrip().startswith(FORMULA_PREFIXES) else text
