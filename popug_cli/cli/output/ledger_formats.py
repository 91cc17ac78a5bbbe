"""The ledger in the formats of other programs: hledger and Ledger, beancount, CSV.

A positive amount is owed to the account. A journal declares its accounts first. Then come the entries of each business
date, in the order of recording, and after them the balance of each account at the end of that date as an assertion:
Ledger compares an assertion with the entries before it in the file. Titles are escaped as each format requires.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from popug_cli.cli.output.disk_sorter import sort_on_disk
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.text import escape_hidden
from popug_cli.messages.billing import DayEnd, LedgerLine

HEADER = "The ledger of a popug company; amounts as in popug: a positive amount is owed to the account."
HLEDGER_HEAD = f"""; {HEADER}
; The types make these the books of the people: what they are owed is an asset of theirs, fees less rewards are an
; expense, and payouts are drawn from equity.
commodity $
    format $1000.00
account people
    ; type: A
account management
    ; type: X
account payouts
    ; type: E
"""
CSV_COLUMNS = (
    *("record", "business_date", "account", "other_account", "kind", "side", "amount_cents", "task_number"),
    *("task_title", "entry_id", "event_id", "occurred_at", "recorded_at", "corrects"),
    *("account_owner", "other_account_owner"),
)
PERSON, COMPANY = "person", "company"
RECORDED_METADATA = '  recorded: "{}"\n'
_FULLWIDTH = r"\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
_FORMULA = re.compile(rf"""(?:^|(?<=;))[\s"']*[=+\-@{_FULLWIDTH}]""")
_PLAIN_CELL = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.:-]*)?")
_NEEDS_QUOTES = re.compile(r"[\",;\t\r\n]|^\s|\s$")
Account = tuple[str, bool]  # its name, and whether it is a person's


class JournalFormat(StrEnum):
    """The format of an exported journal, named after its program if it has one."""

    HLEDGER = "hledger"
    BEANCOUNT = "beancount"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Journal:
    """The functions that write each part of a journal; ``head`` declares the accounts, each with its first date."""

    head: Callable[[Mapping[Account, date]], Iterable[str]]
    entry: Callable[[LedgerLine], str]
    day_end: Callable[[DayEnd], str]


def hledger(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a journal for hledger (https://hledger.org/hledger.html#journal) and Ledger. Raise ``disk_full``."""
    return _by_date(_Journal(_hledger_head, _hledger_entry, _hledger_day_end), lines, ends)


def beancount(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a journal for beancount. Raise ``disk_full``."""
    return _by_date(_Journal(_bean_head, _bean_entry, _bean_day_end), lines, ends)


def _by_date(journal: _Journal, lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield the declarations, then the entries and the assertions of each business date."""
    accounts: dict[Account, date] = {}
    with sort_on_disk() as parts:
        for line in lines:
            accounts.setdefault((line.person, True), line.business_date)
            accounts.setdefault((line.other_account, False), line.business_date)
            parts.add(f"{line.business_date} entry", journal.entry(line))
        for end in ends:
            account = (end.account, end.is_person)
            accounts[account] = min(end.business_date, accounts.get(account, date.max))
            parts.add(f"{end.business_date} last", journal.day_end(end))
        yield from journal.head(accounts)
        yield from parts


def _hledger_head(accounts: Mapping[Account, date]) -> Iterator[str]:
    yield HLEDGER_HEAD
    for account in accounts:
        if account[1]:
            yield f"account {_hledger_account(*account)}\n"


def _hledger_entry(line: LedgerLine) -> str:
    occurred = f"occurred {_time_without_colon(line.occurred_at)}"
    recorded = f", recorded {_time_without_colon(line.recorded_at)}" if line.recorded_at != line.occurred_at else ""
    return (
        f"\n{line.business_date} * {_title(line).replace(';', ',')}\n"
        f"    ; entry {_safe_id(line.entry_id)}, event {_safe_id(line.event_id)}\n"
        f"    ; {occurred}{recorded}\n"
        f"    {_hledger_account(line.person, is_person=True)}  ${_dollars(line.signed_cents)}\n"
        f"    {_hledger_account(line.other_account, is_person=False)}  ${_dollars(-line.signed_cents)}\n"
    )


def _hledger_day_end(end: DayEnd) -> str:
    account = _hledger_account(end.account, is_person=end.is_person)
    return f"\n{end.business_date} * end of the day\n    {account}  $0.00 = ${_dollars(end.balance_cents)}\n"


def _hledger_account(name: str, is_person: bool) -> str:
    return f"people:{name}" if is_person else name


def _time_without_colon(instant: datetime) -> str:
    """Return the time in ISO 8601's basic format: hledger and Ledger read a word before a colon as a tag."""
    return to_rfc3339(instant).replace("-", "").replace(":", "")


def _bean_head(accounts: Mapping[Account, date]) -> Iterator[str]:
    yield f'; {HEADER}\noption "title" "popug"\noption "operating_currency" "USD"\n'
    if accounts:
        yield f"{min(accounts.values())} commodity USD\n"
    for (name, is_person), first_date in accounts.items():
        yield f'\n{first_date} open {_bean_account(name, is_person=is_person)} USD\n  name: "{_quoted(name)}"\n'


def _bean_entry(line: LedgerLine) -> str:
    return (
        f'\n{line.business_date} * "{_quoted(_title(line))}"\n'
        f'  entry: "{line.entry_id}"\n  event: "{_quoted(line.event_id)}"\n'
        f'  occurred: "{to_rfc3339(line.occurred_at)}"\n{_recorded_text(line, RECORDED_METADATA)}'
        f"  {_bean_account(line.person, is_person=True)}  {_dollars(line.signed_cents)} USD\n"
        f"  {_bean_account(line.other_account, is_person=False)}  {_dollars(-line.signed_cents)} USD\n"
    )


def _bean_day_end(end: DayEnd) -> str:
    """Return a balance under the next date: beancount compares it with what comes before that date."""
    if end.business_date == date.max:
        return ""
    next_day = end.business_date + timedelta(days=1)
    account = _bean_account(end.account, is_person=end.is_person)
    return f"{next_day} balance {account}  {_dollars(end.balance_cents)} ~ 0.00 USD\n"


def comma_separated(lines: Iterable[LedgerLine], ends: Iterable[DayEnd]) -> Iterator[str]:
    """Yield a header, then rows ``entry`` and ``balance``; amounts are positive cents, ``side`` is debit or credit.

    ``account_owner`` distinguishes the account of a person called ``management`` from the company's.
    """
    yield _csv_row(CSV_COLUMNS)
    for line in lines:
        task = (str(line.task.number), line.task.title) if line.task else ("", "")
        yield _csv_row(
            (
                *("entry", str(line.business_date), line.person, line.other_account, line.kind),
                *(_side(line.signed_cents), str(line.amount_cents), *task, line.entry_id, line.event_id),
                *(to_rfc3339(line.occurred_at), to_rfc3339(line.recorded_at), line.corrects or ""),
                *(PERSON, COMPANY),
            )
        )
    for end in ends:
        amount = (_side(end.balance_cents), str(abs(end.balance_cents)))
        owner = PERSON if end.is_person else COMPANY
        yield _csv_row(("balance", str(end.business_date), end.account, "", "", *amount, *[""] * 7, owner, ""))


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
    """Return ``template`` with the time of recording, or an empty text if the entry was recorded when it occurred."""
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
    return ",".join(_csv_cell(cell) for cell in cells) + "\n"


def _csv_cell(cell: str) -> str:
    """Return a cell that no spreadsheet reads as a formula, quoted if it contains a separator of some spreadsheet.

    Where the semicolon separates cells, a spreadsheet splits at it even inside quotes. So a formula after a semicolon
    is escaped, too.
    """
    if _PLAIN_CELL.fullmatch(cell):
        return cell
    text = _FORMULA.sub(r"'\g<0>", escape_hidden(cell))
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
