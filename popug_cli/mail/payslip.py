"""The payslip: render a payout as a mail, in text and HTML (pure functions)."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple

import msgspec

from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted, escape_hidden
from popug_cli.mail.html import page
from popug_cli.mail.mime import RenderedMail, render
from popug_cli.mail.rules import subject_of
from popug_cli.messages.base import Cents, Count, Id
from popug_cli.messages.billing import EntryKind, PayoutMade, PayslipLine

WORDS = {
    EntryKind.FEE: "assigned",
    EntryKind.REWARD: "completed",
    EntryKind.PAYOUT: "paid",
    EntryKind.FEE_REVERSAL: "fee taken back",
    EntryKind.REWARD_REVERSAL: "reward taken back",
}
TEXT_COLUMNS, NARROWEST_COLUMNS = 72, 24
HEAD_SENTENCE = "The head of the log's chain, to prove that nothing was rewritten since"


class _StoredPayout(msgspec.Struct):
    """The payload of a payslip. Those queued by a program without version 2 have no ``line_count``."""

    user_id: Id
    business_date: date
    amount_cents: Cents
    opening_balance_cents: int
    lines: list[PayslipLine]
    log_head: str
    line_count: Count | None = None


def decode_payout(payload: str) -> PayoutMade:
    """Return the payout of a stored payslip; that of version 1 may have more lines than version 2 permits."""
    stored = msgspec.json.decode(payload, type=_StoredPayout)
    if stored.line_count is None:
        stored.line_count = len(stored.lines)
    return PayoutMade(**msgspec.structs.asdict(stored))


class PrintedLine(NamedTuple):
    """A row of the payslip's table, formatted."""

    time: str
    what: str
    amount: str
    task: str


def message_of(
    payout: PayoutMade, *, username: str, to: str, sender: str, message_id: str, queued_at: datetime, calendar: Calendar
) -> RenderedMail:
    """Render the payslip; the same arguments give the same bytes.

    Raise ``ValueError`` if the receiver's address is not valid.
    """
    lines = _lines(payout, calendar)
    return render(
        username=username,
        to=to,
        sender=sender,
        message_id=message_id,
        date=calendar.local(queued_at),
        subject=subject_of(payout.amount_cents, payout.business_date),
        text=_text(payout, username, lines),
        html=_html(payout, username, lines),
    )


def text_of(payout: PayoutMade, username: str, calendar: Calendar) -> str:
    """Return the payslip as plain text."""
    return _text(payout, username, _lines(payout, calendar))


def _html(payout: PayoutMade, username: str, lines: list[PrintedLine]) -> str:
    return page(
        "payslip.html.j2",
        lines=lines,
        subject=subject_of(payout.amount_cents, payout.business_date),
        username=escape_hidden(username),
        day=payout.business_date.isoformat(),
        amount=format_cents(payout.amount_cents),
        opening=format_cents(payout.opening_balance_cents),
        rest=_rest(payout),
        head_sentence=HEAD_SENTENCE,
        log_head=escape_hidden(payout.log_head),
    )


def _text(payout: PayoutMade, username: str, lines: list[PrintedLine]) -> str:
    return "\n".join(_text_lines(payout, username, lines)) + "\n"


def _text_lines(payout: PayoutMade, username: str, lines: list[PrintedLine]) -> Iterator[str]:
    yield f"You are paid {format_cents(payout.amount_cents)} for {payout.business_date}."
    yield ""
    yield f"Hello {escape_hidden(username)}, this is how it came about:"
    yield ""
    opening, amount = format_cents(payout.opening_balance_cents), format_cents(payout.amount_cents)
    rows = [PrintedLine("", "brought forward", opening, ""), *lines, PrintedLine("", "paid out", amount, "")]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    indent = " " * (sum(widths) + 8)
    for time, what, figure, task in rows:
        first, *more = _wrapped(task, TEXT_COLUMNS - len(indent))
        yield f"  {time:<{widths[0]}}  {what:<{widths[1]}}  {figure:>{widths[2]}}  {first}".rstrip()
        yield from (indent + continuation for continuation in more)
    yield ""
    if rest := _rest(payout):
        sentence, command = rest
        yield from _wrapped(sentence, TEXT_COLUMNS)
        yield f"  {command}"
        yield ""
    yield from _wrapped(f"{HEAD_SENTENCE}:", TEXT_COLUMNS)
    yield escape_hidden(payout.log_head)


def _wrapped(text: str, columns: int) -> list[str]:
    if len(text) <= columns:
        return [text]
    from textwrap import wrap

    return wrap(text, max(columns, NARROWEST_COLUMNS), break_on_hyphens=False) or [text]


def _lines(payout: PayoutMade, calendar: Calendar) -> list[PrintedLine]:
    """Return the formatted lines, and one with the sum of the entries that the payslip does not show."""
    lines = [_line(line, payout.business_date, calendar) for line in payout.lines]
    if rest := payout.line_count - len(payout.lines):
        shown_cents = payout.opening_balance_cents + sum(line.signed_cents for line in payout.lines)
        lines.append(PrintedLine("", f"{rest:,} more", format_cents(payout.amount_cents - shown_cents), ""))
    return lines


def _rest(payout: PayoutMade) -> tuple[str, str] | None:
    """Return a sentence on the entries that the payslip does not show and the command that shows all, or None."""
    if payout.line_count == len(payout.lines):
        return None
    entries = counted(payout.line_count, "entry", "entries")
    command = f"popug statement --from {payout.business_date} --to {payout.business_date}"
    return f"The day has {entries}; this payslip shows {len(payout.lines):,} of them. Show all with:", command


def _line(line: PayslipLine, business_date: date, calendar: Calendar) -> PrintedLine:
    """Format a row. Show the date too if it differs from the business date."""
    local = calendar.local(line.occurred_at)
    time = f"{local.hour:02}:{local.minute:02}"
    if local.date() != business_date:
        time = f"{local.month:02}-{local.day:02} {time}"
    task = f"#{line.task.number} {escape_hidden(line.task.title)}" if line.task else ""
    return PrintedLine(time, WORDS[line.kind], format_cents(line.signed_cents), task)
