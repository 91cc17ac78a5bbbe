"""Sending mail: claim with a lease in one transaction, hand over outside any, mark in another."""

from collections import deque
from typing import TYPE_CHECKING

from popug_cli.app.mail_batch import Run, send_batch
from popug_cli.bus.runtime import Context
from popug_cli.identity import gate
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.mail import outbox, payslip
from popug_cli.mail.outbox import Claimed
from popug_cli.mail.rules import lease_of
from popug_cli.mail.transport import Transport, open_transport
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.mail import MailRun, SendMail
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

BATCH_MAILS = 500


def send_mail(place: "Local", message: SendMail, principal: Principal) -> MailRun:
    """Send all that is queued, due or not; raises ``mail_unavailable`` where nothing could be sent."""
    run = _deliver(place, principal, message, whenever=True)
    answer = _answer(place, run, principal)
    if run.down and not run.sent:
        raise Unavailable(
            "mail_unavailable",
            f"No mail could be sent: {_sentence(run.down)}",
            hint="Check the mail settings with `popug config show`, then run `popug mail send` again.",
            details={"queued": answer.queued},
        )
    if run.down:
        place.warn(f"Not all mail could be sent: {_sentence(run.down)}")
    elif not run.total and (until := _claimed_until(place, principal)):
        place.warn(f"Another process is sending mail, or was when it ended; what it has claimed is free at {until}.")
    return answer


def send_due(place: "Local", principal: Principal, *, release: bool = False) -> MailRun:
    """Send what is queued and due; whatever keeps it from being sent is a warning."""
    run = Run(whenever=False)
    try:
        run = _deliver(place, principal, SendMail(release=release), whenever=False)
    except PopugError as error:
        run.down = f"{error.message} {error.hint}"
    if run.down:
        place.warn(f"Mail could not be sent: {_sentence(run.down)} It stays queued; `popug mail send` tries again.")
    return _answer(place, run, principal)


def _sentence(reason: str) -> str:
    return reason if reason.endswith(".") else f"{reason}."


def count_unsent(place: "Local", principal: Principal) -> int:
    """How many mails are still to be sent."""
    with place.runtime.reading(principal) as context:
        return outbox.count_unsent(context)[0]


def _claimed_until(place: "Local", principal: Principal) -> str:
    with place.runtime.reading(principal) as context:
        until = outbox.claimed_until(context)
    return f"{place.runtime.calendar.local(until):%H:%M:%S}" if until else ""


def _answer(place: "Local", run: Run, principal: Principal) -> MailRun:
    with place.runtime.reading(principal) as context:
        unsent, held = outbox.count_unsent(context)
    return MailRun(sent=run.sent, queued=unsent, failed=run.failed, held=held)


def _deliver(place: "Local", principal: Principal, message: SendMail, *, whenever: bool) -> Run:
    run = Run(whenever)
    payslip.check_sender(place.runtime.settings.text("mail.from"))
    with open_transport(place.runtime.settings, place.home) as transport:
        place.write("mail", principal, lambda context: _begin(context, message, run))
        while run.waiting and not run.down:
            if batch := _claim(place, principal, message, run, transport):
                send_batch(place.runtime, principal, transport, batch, run)
    place.catch_up()
    return run


def _begin(context: Context, message: SendMail, run: Run) -> None:
    _admit(context, message)
    outbox.tell_sent(context)
    if message.release:
        outbox.release_held(context)
    run.waiting = deque(outbox.claimable(context, whenever=run.whenever))
    run.total = len(run.waiting)


def _claim(place: "Local", principal: Principal, message: SendMail, run: Run, transport: Transport) -> list[Claimed]:
    """The next mails of the one pass that a run makes through what it found in the outbox."""
    mail_ids = [run.waiting.popleft() for _ in range(min(BATCH_MAILS, len(run.waiting)))]

    def work(context: Context) -> list[Claimed]:
        _admit(context, message)
        lease_until = context.now + lease_of(transport.step_seconds)
        return outbox.claim(context, mail_ids, lease_until=lease_until, whenever=run.whenever)

    return place.write("mail", principal, work)


def _admit(context: Context, message: SendMail) -> None:
    if context.principal.token_id:
        gate.admit(context.principal, DECLARATIONS[SendMail], message, context)
