"""Send the mails of one lease.

Mail N is marked as sent while the server processes the envelope of mail N+1, and before mail N+1 can be accepted. So at
most one accepted mail is unmarked at any time. A thread does the marking, so that disk and network overlap. All other
results of a batch are stored at its end.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import MsgspecError

from popug_cli.bus.context import Runtime, WriteStatement
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.stored_values import choice_of
from popug_cli.mail import outbox, payslip, summary
from popug_cli.mail.mime import RenderedMail
from popug_cli.mail.outbox import ClaimedMail
from popug_cli.mail.rules import MAX_REFUSALS_IN_A_ROW, lease_margin, one_line
from popug_cli.mail.transport import DeliveryResult, MailTransport, Verdict
from popug_cli.messages.base import Role
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.principal import Principal


@dataclass(slots=True)
class DeliveryRun:
    """State of a run: `waiting` has the ids of the mails not tried yet, `down` the error that stopped the run.

    `refusal` is the last rejection that may be due to the set-up, not to the receiver.
    """

    include_not_due: bool
    waiting: deque[str] = field(default_factory=deque)
    total: int = 0
    sent: int = 0
    failed: int = 0
    down: str = ""
    disconnected_before: bool = False
    refusal: str = ""
    refused_in_a_row: int = 0
    unclear_since_accepted: int = 0


@dataclass(slots=True)
class DeliveryBatch:
    """State of a batch while it is sent.

    `accepted` has the mails that the transport accepted and that are not marked; nothing is added while `marking` runs.
    `not_accepted` has the mails that it did not accept; `rendered` has the mails rendered ahead, by id.
    """

    runtime: Runtime
    transport: MailTransport
    run: DeliveryRun
    write_statement: WriteStatement
    waiting: deque[ClaimedMail]
    marker: ThreadPoolExecutor
    marking: Future[None] | None = None
    accepted: list[ClaimedMail] = field(default_factory=list)
    not_accepted: list[tuple[ClaimedMail, DeliveryResult]] = field(default_factory=list)
    rendered: dict[str, RenderedMail | DeliveryResult] = field(default_factory=dict)


def send_batch(
    runtime: Runtime, principal: Principal, transport: MailTransport, batch: list[ClaimedMail], run: DeliveryRun
) -> None:
    """Send until the lease or the connection ends. In any case, release the mails that were not tried."""
    runtime = runtime.ignoring_stop_requests()  # accepted mails must be marked, even if the process is asked to stop
    with runtime.statement_writer() as write_statement, ThreadPoolExecutor(1, "popug-mail-marker") as marker:
        delivery = DeliveryBatch(runtime, transport, run, write_statement, deque(batch), marker)
        try:
            _send_all(delivery, batch[0])
        finally:
            _start_marking(delivery)
            _finish_marking(delivery)
            _finish_batch(delivery, principal, [mail.mail_id for mail in batch])


def _send_all(delivery: DeliveryBatch, first: ClaimedMail) -> None:
    run, runtime, margin = delivery.run, delivery.runtime, lease_margin(delivery.transport.step_seconds)
    while delivery.waiting and not run.down:
        result = _send(delivery, delivery.waiting[0])
        _record_outcome(delivery, delivery.waiting.popleft(), result)
        done = run.sent + run.failed + len(delivery.accepted)
        runtime.progress("Sending mail", min(done, run.total), run.total)
        if runtime.clock.now() + margin > first.lease_until:
            break


def _send(delivery: DeliveryBatch, mail: ClaimedMail) -> DeliveryResult:
    rendered_mail = delivery.rendered.pop(mail.mail_id, None) or _render(delivery.runtime, mail)
    if isinstance(rendered_mail, DeliveryResult):
        return rendered_mail
    return delivery.transport.send(
        rendered_mail,
        start_marking=partial(_start_marking, delivery),
        finish_marking=partial(_finish_marking, delivery),
        prepare_next=partial(_render_next, delivery),
    )


def _render_next(delivery: DeliveryBatch) -> None:
    if len(delivery.waiting) > 1:
        next_mail = delivery.waiting[1]
        delivery.rendered[next_mail.mail_id] = _render(delivery.runtime, next_mail)


def _render(runtime: Runtime, mail: ClaimedMail) -> RenderedMail | DeliveryResult:
    """Return the rendered mail, or a rejection if it must not go to its receiver or cannot be rendered."""
    try:
        common_fields: dict[str, Any] = {
            "username": mail.username,
            "to": mail.email,
            "sender": runtime.settings.text("mail.from"),
            "message_id": mail.message_id,
            "queued_at": from_rfc3339(mail.queued_at),
            "calendar": runtime.calendar,
        }
        content = summary.content_of(mail.kind, mail.payload)
        if isinstance(content, PayoutMade):
            return payslip.message_of(content, **common_fields)
        if not summary.may_receive(choice_of(Role, mail.role), active=bool(mail.active)):
            return DeliveryResult(Verdict.REJECTED, f"{mail.username} is not an active accountant or admin any more")
        return summary.message_of(content, **common_fields)
    except (ValueError, MsgspecError) as error:
        return DeliveryResult(Verdict.REJECTED, one_line(str(error)))


def _record_outcome(delivery: DeliveryBatch, mail: ClaimedMail, result: DeliveryResult) -> None:
    """Record the outcome. Two dropped connections in a row stop the run, although the two mails may be the cause."""
    run = delivery.run
    if result.verdict is Verdict.ACCEPTED:
        delivery.accepted.append(mail)
        run.unclear_since_accepted = 0
    else:
        delivery.not_accepted.append((mail, result))
        run.failed += result.verdict is Verdict.REJECTED
        run.unclear_since_accepted += result.verdict is Verdict.UNCLEAR
    _count_refusal(delivery, result)
    is_disconnected = result.verdict is Verdict.DISCONNECTED
    if result.verdict is Verdict.UNAVAILABLE or (is_disconnected and run.disconnected_before):
        run.down = result.error
    run.disconnected_before = is_disconnected


def _count_refusal(delivery: DeliveryBatch, result: DeliveryResult) -> None:
    """Count the refusals in a row that are due to the set-up. Many stop the run, unless it has an accepted mail."""
    run = delivery.run
    is_refused = result.verdict is Verdict.REFUSED
    run.refused_in_a_row = run.refused_in_a_row + 1 if is_refused else 0
    if is_refused:
        run.refusal = result.error
    if run.refused_in_a_row >= MAX_REFUSALS_IN_A_ROW and not run.sent and not delivery.accepted:
        run.down = result.error


def _start_marking(delivery: DeliveryBatch) -> None:
    """Mark the accepted mails in the thread; in this thread if the interpreter shuts down and executors refuse work."""
    _finish_marking(delivery)
    if delivery.accepted:
        try:
            delivery.marking = delivery.marker.submit(_mark_accepted, delivery)
        except RuntimeError:
            _mark_accepted(delivery)


def _finish_marking(delivery: DeliveryBatch) -> None:
    """Wait for the marking in progress. Raise its error; the accepted mails then remain to be marked."""
    if delivery.marking is not None:
        failure = delivery.marking.exception()
        delivery.marking = None
        if failure is not None:
            raise failure


def _mark_accepted(delivery: DeliveryBatch) -> None:
    """Mark the accepted mails as sent. If the transport cannot settle them, stop the run."""
    settled = delivery.transport.settle()
    if settled.verdict is Verdict.ACCEPTED:
        outbox.mark_sent(delivery.write_statement, delivery.accepted, delivery.runtime.clock.now())
        delivery.run.sent += len(delivery.accepted)
    else:
        delivery.not_accepted += [(mail, settled) for mail in delivery.accepted]
        delivery.run.down = settled.error
    delivery.accepted = []


def _record_failure(run: DeliveryRun, result: DeliveryResult, *, may_be_setup: bool) -> bool:
    """Return whether a mail has failed, and record it in `run`. For an unclear cause, `may_be_setup` decides."""
    if result.verdict is not Verdict.UNCLEAR:
        return result.verdict is Verdict.REJECTED
    if may_be_setup:
        run.refusal = result.error
        return False
    run.failed += 1
    return True


def _unclear_from_setup(delivery: DeliveryBatch) -> int:
    """Return how many of the last rejections of unclear cause may be due to the set-up.

    All of them if the run has sent no mail. Otherwise those since the last accepted mail if there are several, as after
    a spent quota.
    """
    run = delivery.run
    if not run.sent:
        return len(delivery.not_accepted)
    return run.unclear_since_accepted if run.unclear_since_accepted > 1 else 0


def _finish_batch(delivery: DeliveryBatch, principal: Principal, mail_ids: list[str]) -> None:
    """Store the results of the batch, publish the sent mails, and release the mails that were not tried."""
    run = delivery.run
    unclear_count = sum(result.verdict is Verdict.UNCLEAR for _, result in delivery.not_accepted)
    failed_unclear_count = unclear_count - _unclear_from_setup(delivery)
    with delivery.runtime.writing(principal) as context:
        for mail, result in delivery.not_accepted:
            failed_unclear_count -= result.verdict is Verdict.UNCLEAR
            if _record_failure(run, result, may_be_setup=failed_unclear_count < 0):
                outbox.mark_failed(context, mail, result.error)
            else:
                outbox.reschedule(context, mail, result.error)
        outbox.publish_sent(context, mail_ids)
        outbox.release(context, list(delivery.waiting))
        if run.down:
            outbox.postpone_all(context, run.down, sum(result.error == run.down for _, result in delivery.not_accepted))
    run.waiting.extendleft(mail.mail_id for mail in reversed(delivery.waiting))
