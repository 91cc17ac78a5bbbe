"""Sending the mails of one lease; while one is announced to the server, the one before is marked.

A mail's mark is begun at the moment the server took it, and is on the disk before the next one's content is sent: at
most one mail is ever taken and not marked, as if one were done after the other.
"""

from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import MsgspecError

from popug_cli.app.beside import Beside
from popug_cli.bus.runtime import Context, Runtime, Writing
from popug_cli.kernel.clock import parse_stamp
from popug_cli.mail import outbox, payslip, summary
from popug_cli.mail.letter import Letter
from popug_cli.mail.outbox import Claimed
from popug_cli.mail.rules import longest_mail, one_line
from popug_cli.mail.transport import TAKEN, Outcome, Transport, Verdict
from popug_cli.messages.base import Role
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.principal import Principal


@dataclass(slots=True)
class Run:
    """How a run goes: ``after`` is the last mail that was tried, ``down`` why it cannot go on."""

    whenever: bool
    total: int = 0
    after: str = ""
    sent: int = 0
    failed: int = 0
    down: str = ""
    broken_before: bool = False
    tried: list[tuple[Claimed, Outcome]] = field(default_factory=list)


@dataclass(slots=True)
class Desk:
    """Where mails are sent from; ``written`` holds those that were written ahead, by their ids."""

    runtime: Runtime
    transport: Transport
    run: Run
    writing: Writing
    beside: Beside
    written: dict[str, Letter | Outcome] = field(default_factory=dict)


def send_batch(runtime: Runtime, principal: Principal, transport: Transport, batch: list[Claimed], run: Run) -> None:
    """Send until the lease or the connection ends; what was not tried is given back, whatever happens."""
    waiting = deque(batch)
    often = transport.mark_every == 1
    ways = runtime.writing_often(principal) if often else nullcontext(partial(runtime.writing, principal))
    with ways as writing, Beside(thread=often) as beside:
        desk = Desk(runtime, transport, run, writing, beside)
        try:
            _send_all(desk, waiting, batch[0])
        finally:
            beside.wait()
            _mark(desk, _take_tried(run))
            with writing() as context:
                outbox.give_back(context, list(waiting))
                if run.down:
                    outbox.postpone(context, batch[len(batch) - len(waiting) - 1])


def _send_all(desk: Desk, waiting: deque[Claimed], first: Claimed) -> None:
    run, runtime, spare = desk.run, desk.runtime, longest_mail(desk.transport.step_seconds)
    while waiting and not run.down:
        outcome = _send(desk, waiting[0], waiting[1] if len(waiting) > 1 else None)
        _note(run, waiting.popleft(), outcome)
        runtime.progress("Sending mail", min(run.sent + run.failed + len(run.tried), run.total), run.total)
        if len(run.tried) >= desk.transport.mark_every:
            desk.beside.start(partial(_mark, desk, _take_tried(run)))
        if runtime.clock.now() + spare > first.lease_until:
            break


def _send(desk: Desk, mail: Claimed, following: Claimed | None) -> Outcome:
    letter = desk.written.pop(mail.mail_id, None) or _written(desk.runtime, mail)
    if isinstance(letter, Outcome):
        return letter
    write_ahead = partial(_write_ahead, desk, following) if following else _nothing
    return desk.transport.send(letter, ready=desk.beside.wait, meanwhile=write_ahead)


def _nothing() -> None:
    """There is nothing to do."""


def _write_ahead(desk: Desk, mail: Claimed) -> None:
    desk.written[mail.mail_id] = _written(desk.runtime, mail)


def _written(runtime: Runtime, mail: Claimed) -> Letter | Outcome:
    """The mail as it goes out, or why it may not go to its receiver or cannot be written."""
    try:
        about: dict[str, Any] = {
            "username": mail.username,
            "to": mail.email,
            "sender": runtime.settings.text("mail.from"),
            "message_id": mail.message_id,
            "queued_at": parse_stamp(mail.queued_at),
            "calendar": runtime.calendar,
        }
        content = summary.content_of(mail.kind, mail.payload)
        if isinstance(content, PayoutMade):
            return payslip.message_of(content, **about)
        if not summary.may_read(Role(mail.role), active=bool(mail.active)):
            return Outcome(Verdict.REFUSED, f"{mail.username} is not of management any more")
        return summary.message_of(content, **about)
    except (ValueError, MsgspecError) as error:
        return Outcome(Verdict.REFUSED, one_line(str(error)))


def _note(run: Run, mail: Claimed, outcome: Outcome) -> None:
    """Two broken connections in a row are no accident."""
    run.tried.append((mail, outcome))
    run.after = mail.mail_id
    broken = outcome.verdict is Verdict.BROKEN
    if outcome.verdict is Verdict.UNAVAILABLE or (broken and run.broken_before):
        run.down = outcome.error
    run.broken_before = broken


def _take_tried(run: Run) -> list[tuple[Claimed, Outcome]]:
    tried, run.tried = run.tried, []
    return tried


def _mark(desk: Desk, tried: list[tuple[Claimed, Outcome]]) -> None:
    """Mark what was tried; what the transport cannot answer for any more ends the run."""
    if not tried:
        return
    settled = desk.transport.settle() if any(outcome == TAKEN for _, outcome in tried) else TAKEN
    with desk.writing() as context:
        for mail, outcome in tried:
            _mark_one(context, mail, settled if outcome.verdict is Verdict.TAKEN else outcome, desk.run)
    if settled.verdict is not Verdict.TAKEN:
        desk.run.down = settled.error


def _mark_one(context: Context, mail: Claimed, outcome: Outcome, run: Run) -> None:
    if outcome.verdict is Verdict.TAKEN:
        outbox.mark_sent(context, mail)
        run.sent += 1
    elif outcome.verdict is Verdict.REFUSED:
        outbox.mark_failed(context, mail, outcome.error)
        run.failed += 1
    else:
        outbox.put_back(context, mail, outcome.error)
