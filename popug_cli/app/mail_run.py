"""Sending mail: claim with a lease in one transaction, hand over outside any, mark in another."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from popug_cli.bus.runtime import Context, Runtime
from popug_cli.identity import gate
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.mail import outbox, payslip, summary
from popug_cli.mail.letter import Letter
from popug_cli.mail.outbox import Claimed
from popug_cli.mail.rules import lease_of, longest_mail, one_line
from popug_cli.mail.transport import TAKEN, Outcome, Transport, Verdict, open_transport
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.mail import MailRun, SendMail
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

BATCH_MAILS = 500


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


def send_mail(place: "Local", message: SendMail, principal: Principal) -> MailRun:
    """Send all that is queued, due or not; raises ``mail_unavailable`` where nothing could be sent."""
    run = _deliver(place, principal, message, whenever=True)
    answer = _answer(place, run, principal)
    if run.down and not run.sent:
        raise Unavailable(
            "mail_unavailable",
            f"No mail could be sent: {run.down}",
            hint="Check the mail settings with `popug config show`, then run `popug mail send` again.",
            details={"queued": answer.queued},
        )
    if run.down:
        place.warn(f"Not all mail could be sent: {run.down}")
    return answer


def send_due(place: "Local", principal: Principal, *, release: bool = False) -> MailRun:
    """Send what is queued and due; whatever keeps it from being sent is a warning."""
    run = Run(whenever=False)
    try:
        run = _deliver(place, principal, SendMail(release=release), whenever=False)
    except PopugError as error:
        run.down = f"{error.message} {error.hint}"
    if run.down:
        place.warn(f"Mail could not be sent: {run.down} It stays queued; `popug mail send` tries again.")
    return _answer(place, run, principal)


def count_unsent(place: "Local", principal: Principal) -> int:
    """How many mails are still to be sent."""
    with place.runtime.reading(principal) as context:
        return outbox.count_unsent(context)[0]


def _answer(place: "Local", run: Run, principal: Principal) -> MailRun:
    with place.runtime.reading(principal) as context:
        unsent, held = outbox.count_unsent(context)
    return MailRun(sent=run.sent, queued=unsent, failed=run.failed, held=held)


def _deliver(place: "Local", principal: Principal, message: SendMail, *, whenever: bool) -> Run:
    run = Run(whenever)
    payslip.check_sender(place.runtime.settings.text("mail.from"))
    with open_transport(place.runtime.settings, place.home) as transport:
        place.write("mail", principal, lambda context: _begin(context, message, run))
        while not run.down and (batch := _claim(place, principal, message, run, transport)):
            _send_batch(place.runtime, principal, transport, batch, run)
    place.catch_up()
    return run


def _begin(context: Context, message: SendMail, run: Run) -> None:
    _admit(context, message)
    if message.release:
        outbox.release_held(context)
    run.total = outbox.count_claimable(context, whenever=run.whenever)


def _claim(place: "Local", principal: Principal, message: SendMail, run: Run, transport: Transport) -> list[Claimed]:
    """The next mails of the one pass that a run makes through the outbox."""

    def work(context: Context) -> list[Claimed]:
        _admit(context, message)
        lease_until = context.now + lease_of(transport.step_seconds)
        return outbox.claim(context, after=run.after, limit=BATCH_MAILS, lease_until=lease_until, whenever=run.whenever)

    return place.write("mail", principal, work) if run.total else []


def _admit(context: Context, message: SendMail) -> None:
    if context.principal.token_id:
        gate.admit(context.principal, DECLARATIONS[SendMail], message, context)


def _send_batch(runtime: Runtime, principal: Principal, transport: Transport, batch: list[Claimed], run: Run) -> None:
    """Send until the lease or the connection ends; what was not tried is given back, whatever happens."""
    waiting = deque(batch)
    spare = longest_mail(transport.step_seconds)
    try:
        while waiting and not run.down:
            outcome = _send(runtime, transport, waiting[0])
            _note(run, waiting.popleft(), outcome)
            runtime.progress("Sending mail", min(run.sent + run.failed + len(run.tried), run.total), run.total)
            if len(run.tried) >= transport.mark_every:
                _mark(runtime, principal, transport, run)
            if runtime.clock.now() + spare > batch[0].lease_until:
                break
    finally:
        _mark(runtime, principal, transport, run)
        _give_back(runtime, principal, waiting)
        if run.down and batch:
            with runtime.writing(principal) as context:
                outbox.postpone(context, batch[len(batch) - len(waiting) - 1])


def _send(runtime: Runtime, transport: Transport, mail: Claimed) -> Outcome:
    try:
        letter = _written(runtime, mail)
    except ValueError as error:
        return Outcome(Verdict.REFUSED, one_line(str(error)))
    return transport.send(letter)


def _written(runtime: Runtime, mail: Claimed) -> Letter:
    """The mail as it goes out; raises ``ValueError`` where it may not go to its receiver."""
    about: dict[str, Any] = {
        "username": mail.username,
        "to": mail.email,
        "sender": runtime.settings.text("mail.from"),
        "message_id": mail.message_id,
        "queued_at": mail.queued_at,
        "calendar": runtime.calendar,
    }
    if isinstance(mail.content, PayoutMade):
        return payslip.message_of(mail.content, **about)
    if not summary.may_read(mail.role, active=mail.active):
        raise ValueError(f"{mail.username} is not of management any more")
    return summary.message_of(mail.content, **about)


def _note(run: Run, mail: Claimed, outcome: Outcome) -> None:
    """Two broken connections in a row are no accident."""
    run.tried.append((mail, outcome))
    run.after = mail.mail_id
    broken = outcome.verdict is Verdict.BROKEN
    if outcome.verdict is Verdict.UNAVAILABLE or (broken and run.broken_before):
        run.down = outcome.error
    run.broken_before = broken


def _mark(runtime: Runtime, principal: Principal, transport: Transport, run: Run) -> None:
    if not run.tried:
        return
    tried, run.tried = run.tried, []
    settled = transport.settle() if any(outcome == TAKEN for _, outcome in tried) else TAKEN
    with runtime.writing(principal) as context:
        for mail, outcome in tried:
            _mark_one(context, mail, settled if outcome.verdict is Verdict.TAKEN else outcome, run)
    if settled.verdict is not Verdict.TAKEN:
        run.down = settled.error


def _mark_one(context: Context, mail: Claimed, outcome: Outcome, run: Run) -> None:
    if outcome.verdict is Verdict.TAKEN:
        outbox.mark_sent(context, mail)
        run.sent += 1
    elif outcome.verdict is Verdict.REFUSED:
        outbox.mark_failed(context, mail, outcome.error)
        run.failed += 1
    else:
        outbox.put_back(context, mail, outcome.error)


def _give_back(runtime: Runtime, principal: Principal, mails: deque[Claimed]) -> None:
    if mails:
        with runtime.writing(principal) as context:
            outbox.give_back(context, list(mails))
