"""Sending the mails of one lease: each is marked while the next one is announced, and so before that one is taken.

At most one mail is ever taken and not marked. A thread makes the marks, so that the disk is waited for while the server
is talked to. What else follows from a batch is written down at its end.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import MsgspecError

from popug_cli.bus.runtime import Note, Runtime
from popug_cli.kernel.clock import parse_stamp
from popug_cli.mail import outbox, payslip, summary
from popug_cli.mail.letter import Letter
from popug_cli.mail.outbox import Claimed
from popug_cli.mail.rules import one_line, reserve_of
from popug_cli.mail.transport import Outcome, Transport, Verdict
from popug_cli.messages.base import Role
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.principal import Principal


@dataclass(slots=True)
class Run:
    """How a run goes: ``waiting`` are the ids of what it has not tried, ``down`` is why it cannot go on."""

    whenever: bool
    waiting: deque[str] = field(default_factory=deque)
    total: int = 0
    sent: int = 0
    failed: int = 0
    down: str = ""
    broken_before: bool = False


@dataclass(slots=True)
class Desk:
    """Where the mails of a batch are sent from.

    ``taken`` are those that the transport took and that are not marked (nothing is added while ``marking`` runs),
    ``other`` those that it did not take, and ``written`` those that were written ahead, by their ids.
    """

    runtime: Runtime
    transport: Transport
    run: Run
    note: Note
    waiting: deque[Claimed]
    clerk: ThreadPoolExecutor
    marking: Future[None] | None = None
    taken: list[Claimed] = field(default_factory=list)
    other: list[tuple[Claimed, Outcome]] = field(default_factory=list)
    written: dict[str, Letter | Outcome] = field(default_factory=dict)


def send_batch(runtime: Runtime, principal: Principal, transport: Transport, batch: list[Claimed], run: Run) -> None:
    """Send until the lease or the connection ends; what was not tried is given back, whatever happens."""
    runtime = runtime.patient()  # what the mail server took must be marked, also when the process is to end
    with runtime.noting() as note, ThreadPoolExecutor(1, "popug-clerk") as clerk:
        desk = Desk(runtime, transport, run, note, deque(batch), clerk)
        try:
            _send_all(desk, batch[0])
        finally:
            _begin_marking(desk)
            _end_marking(desk)
            _conclude(desk, principal, [mail.mail_id for mail in batch])


def _send_all(desk: Desk, first: Claimed) -> None:
    run, runtime, reserve = desk.run, desk.runtime, reserve_of(desk.transport.step_seconds)
    while desk.waiting and not run.down:
        outcome = _send(desk, desk.waiting[0])
        _note(desk, desk.waiting.popleft(), outcome)
        done = run.sent + run.failed + len(desk.taken)
        runtime.progress("Sending mail", min(done, run.total), run.total)
        if runtime.clock.now() + reserve > first.lease_until:
            break


def _send(desk: Desk, mail: Claimed) -> Outcome:
    letter = desk.written.pop(mail.mail_id, None) or _written(desk.runtime, mail)
    if isinstance(letter, Outcome):
        return letter
    return desk.transport.send(
        letter,
        mark=partial(_begin_marking, desk),
        marked=partial(_end_marking, desk),
        meanwhile=partial(_write_ahead, desk),
    )


def _write_ahead(desk: Desk) -> None:
    if len(desk.waiting) > 1:
        following = desk.waiting[1]
        desk.written[following.mail_id] = _written(desk.runtime, following)


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


def _note(desk: Desk, mail: Claimed, outcome: Outcome) -> None:
    """Two broken connections in a row are no accident, though perhaps the fault of the two mails."""
    run = desk.run
    if outcome.verdict is Verdict.TAKEN:
        desk.taken.append(mail)
    else:
        desk.other.append((mail, outcome))
        run.failed += outcome.verdict is Verdict.REFUSED
    broken = outcome.verdict is Verdict.BROKEN
    if outcome.verdict is Verdict.UNAVAILABLE or (broken and run.broken_before):
        run.down = outcome.error
    run.broken_before = broken


def _begin_marking(desk: Desk) -> None:
    """Let the thread mark; where the interpreter is ending, which takes no new work, it is done at once."""
    _end_marking(desk)
    if desk.taken:
        try:
            desk.marking = desk.clerk.submit(_mark, desk)
        except RuntimeError:
            _mark(desk)


def _end_marking(desk: Desk) -> None:
    """Wait for the mark that is being made; what it failed with is raised, and what was taken is still to be marked."""
    if desk.marking is not None:
        failure = desk.marking.exception()
        desk.marking = None
        if failure is not None:
            raise failure


def _mark(desk: Desk) -> None:
    """Mark what was taken; what the transport cannot answer for any more ends the run."""
    settled = desk.transport.settle()
    if settled.verdict is Verdict.TAKEN:
        outbox.mark_sent(desk.note, desk.taken, desk.runtime.clock.now())
        desk.run.sent += len(desk.taken)
    else:
        desk.other += [(mail, settled) for mail in desk.taken]
        desk.run.down = settled.error
    desk.taken = []


def _conclude(desk: Desk, principal: Principal, batch: list[str]) -> None:
    """Write down what became of the batch, tell of what was sent, and give back what was not tried."""
    run = desk.run
    with desk.runtime.writing(principal) as context:
        for mail, outcome in desk.other:
            if outcome.verdict is Verdict.REFUSED:
                outbox.mark_failed(context, mail, outcome.error)
            else:
                outbox.put_back(context, mail, outcome.error)
        outbox.tell_sent(context, batch)
        outbox.give_back(context, list(desk.waiting))
        if run.down:
            outbox.postpone_all(context, run.down, sum(outcome.error == run.down for _, outcome in desk.other))
    run.waiting.extendleft(mail.mail_id for mail in reversed(desk.waiting))
