"""Send mail: claim it with a lease in one transaction, send it outside any, mark it in another."""

from collections import deque

from popug_cli.bus.context import Context
from popug_cli.bus.workflow import WorkflowBackend
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.text import counted
from popug_cli.mail import outbox
from popug_cli.mail.delivery import DeliveryRun, send_batch
from popug_cli.mail.outbox import ClaimedMail
from popug_cli.mail.rules import lease_duration
from popug_cli.mail.setting_checks import check_sender
from popug_cli.mail.transport import MailTransport, open_transport
from popug_cli.messages.internal.mail import SendDue
from popug_cli.messages.mail import MailRunResult, SendMail
from popug_cli.messages.principal import Principal

MAX_BATCH_MAILS = 500


def send_mail(backend: WorkflowBackend, message: SendMail, principal: Principal) -> MailRunResult:
    """Send all queued mail, due or not. Mail held by a restore is sent only with `message.release`.

    Raise ``mail_unavailable`` if an error stopped the run before any mail was sent.
    """
    run = _deliver(backend, principal, message, include_not_due=True)
    answer = _answer(backend, run, principal)
    if run.down and not run.sent:
        raise Unavailable(
            "mail_unavailable",
            f"No mail could be sent: {_sentence(run.down)}",
            hint="Check the mail settings with `popug config show`, then run `popug mail send` again.",
            details={"queued": answer.queued},
        )
    if run.down:
        backend.warn(f"Not all mail could be sent: {_sentence(run.down)}")
    _warn_of_failed(backend, run)
    if not run.down and not run.total and (until := _claimed_until(backend, principal)):
        backend.warn(
            f"Another process is sending mail, or ended while it did; its mails can be sent again from {until}."
        )
    return answer


def send_due(backend: WorkflowBackend, message: SendDue, principal: Principal) -> MailRunResult:
    """Send the queued mail that is due; an error is a warning.

    With ``if_any``, and without any such mail, take no lock and contact no server.
    """
    if message.if_any and not _is_any_due(backend, principal):
        return _answer(backend, DeliveryRun(include_not_due=False), principal)
    run = DeliveryRun(include_not_due=False)
    try:
        run = _deliver(backend, principal, SendMail(), include_not_due=False)
    except PopugError as error:
        run.down = f"{error.message} {error.hint}"
    if run.down:
        backend.warn(f"Mail could not be sent: {_sentence(run.down)} It stays queued; `popug mail send` tries again.")
    _warn_of_failed(backend, run)
    return _answer(backend, run, principal)


def _warn_of_failed(backend: WorkflowBackend, run: DeliveryRun) -> None:
    if run.failed:
        mails = counted(run.failed, "mail was", "mails were")
        backend.warn(
            f"{mails} rejected permanently. Run `popug mail list --status failed` for the reasons,"
            " `popug mail retry --all` to try again."
        )


def _sentence(reason: str) -> str:
    return reason if reason.endswith(".") else f"{reason}."


def _is_any_due(backend: WorkflowBackend, principal: Principal) -> bool:
    with backend.runtime.reading(principal) as context:
        return bool(outbox.count_claimable(context, include_not_due=False)) or outbox.has_unpublished(context)


def _claimed_until(backend: WorkflowBackend, principal: Principal) -> str:
    with backend.runtime.reading(principal) as context:
        until = outbox.claimed_until(context)
    return f"{backend.runtime.calendar.local(until):%H:%M:%S}" if until else ""


def _answer(backend: WorkflowBackend, run: DeliveryRun, principal: Principal) -> MailRunResult:
    with backend.runtime.reading(principal) as context:
        unsent, held = outbox.count_unsent(context)
    return MailRunResult(sent=run.sent, queued=unsent, failed=run.failed, held=held)


def _deliver(
    backend: WorkflowBackend, principal: Principal, message: SendMail, *, include_not_due: bool
) -> DeliveryRun:
    run = DeliveryRun(include_not_due)
    check_sender(backend.runtime.settings.text("mail.from"))
    with open_transport(backend.runtime.settings, backend.home) as transport:
        backend.write(message, principal, lambda context: _begin(context, message, run))
        while run.waiting and not run.down:
            if batch := _lease_next(backend, principal, message, run, transport):
                send_batch(backend.runtime, principal, transport, batch, run)
    run.down = run.down or run.refusal
    backend.catch_up(completely=True)
    return run


def _begin(context: Context, message: SendMail, run: DeliveryRun) -> None:
    outbox.publish_sent(context)
    if message.release:
        outbox.release_held(context)
    run.waiting = deque(outbox.claimable(context, include_not_due=run.include_not_due))
    run.total = len(run.waiting)


def _lease_next(
    backend: WorkflowBackend, principal: Principal, message: SendMail, run: DeliveryRun, transport: MailTransport
) -> list[ClaimedMail]:
    """Lease the next mails of the run, which passes once through the mails found at its start."""
    mail_ids = [run.waiting.popleft() for _ in range(min(MAX_BATCH_MAILS, len(run.waiting)))]

    def lease(context: Context) -> list[ClaimedMail]:
        lease_until = context.now + lease_duration(transport.step_seconds)
        return outbox.claim(context, mail_ids, lease_until=lease_until, include_not_due=run.include_not_due)

    return backend.write(message, principal, lease)
