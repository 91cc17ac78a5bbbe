"""Mail that is being sent: its lease, and its state when a sender ends."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from popug_cli.app import local_backend
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.settings import MAX_SMTP_TIMEOUT_SECONDS
from popug_cli.mail import delivery, outbox, sending
from popug_cli.mail.rules import lease_duration
from popug_cli.mail.transport import ACCEPTED, DeliveryResult
from popug_cli.messages.company import Check, CheckHealth
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import OPERATOR, SCHEDULER, Principal
from popug_cli.messages.scheduler import RunDue
from tests.support.mail_company import MailCompany, Use, room, scripted

__all__ = ["room", "scripted"]


def test_mail_of_a_dead_process_is_sent_after_lease_expiry(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    with room.backend.runtime.writing(OPERATOR) as context:
        lease = context.now + timedelta(seconds=90)
        (mail,) = outbox.claim(
            context, outbox.claimable(context, include_not_due=False), lease_until=lease, include_not_due=False
        )
    assert room.statuses() == {"kesha": "sending"}
    assert room.send().queued == 1
    (said,) = room.warnings
    assert said.endswith(f"can be sent again from {room.backend.runtime.calendar.local(lease):%H:%M:%S}.")
    room.clock.advance(seconds=91)
    assert room.send().sent == 1
    assert room.delivered()[0]["Message-ID"] == mail.message_id


def test_lease_is_void_after_clock_set_back(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    with room.backend.runtime.writing(OPERATOR) as context:
        lease = context.now + lease_duration(MAX_SMTP_TIMEOUT_SECONDS)
        outbox.claim(
            context, outbox.claimable(context, include_not_due=False), lease_until=lease, include_not_due=False
        )
    assert (room.send().sent, room.send().queued) == (0, 1)
    room.clock.advance(seconds=-1)
    assert room.send().sent == 1


def test_unreported_mail_of_dead_sender_is_published_once(
    room: MailCompany, scripted: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    def is_agreed() -> bool:
        checks: list[Check] = room.backend.perform_as(OPERATOR, CheckHealth()).checks
        return next(check.ok for check in checks if check.name == "sent_mail_has_event")

    room.hire("kesha")
    room.pay("kesha")
    scripted()
    with monkeypatch.context() as dying:
        dying.setattr(delivery, "_finish_batch", die)
        with pytest.raises(KeyboardInterrupt):
            room.send()
    assert (room.statuses(), room.published("mail_sent"), is_agreed()) == ({"kesha": "sent"}, 0, True)
    for _ in range(2):
        room.backend.perform(RunDue(), actor=SCHEDULER)
        assert (room.published("mail_sent"), is_agreed()) == (1, True)
    room.execute("UPDATE mail_outbox SET mail_id = 'another'")
    assert not is_agreed()


def test_two_processes_never_hold_the_same_mail(room: MailCompany) -> None:
    room.hire("kesha", "gosha", "vera")
    room.pay("kesha", "gosha", "vera")

    def claim(limit: int) -> set[str]:
        with room.backend.runtime.writing(OPERATOR) as context:
            lease = context.now + timedelta(seconds=90)
            found = outbox.claimable(context, include_not_due=True)
            mails = outbox.claim(context, found[:limit], lease_until=lease, include_not_due=True)
            assert outbox.claim(context, found[:limit], lease_until=lease, include_not_due=True) == []
        return {mail.mail_id for mail in mails}

    first, second = claim(2), claim(10)
    assert (len(first), len(second)) == (2, 1)
    assert not first & second


def test_interrupted_run_keeps_sent_and_releases_the_rest(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha", "vera")
    room.pay("kesha", "gosha", "vera")

    def interrupt() -> DeliveryResult:
        raise KeyboardInterrupt

    transport = scripted(ACCEPTED, interrupt, with_marking=False)
    with pytest.raises(KeyboardInterrupt):
        room.send()
    assert room.statuses()[transport.handed_over[0]] == "sent"
    assert sorted(room.statuses().values()) == ["queued", "queued", "sent"]
    assert room.send().sent == 2


def test_batch_is_released_before_lease_ends_and_claimed_again(room: MailCompany, scripted: Use) -> None:
    names = ("kesha", "gosha", "vera")
    room.hire(*names)
    room.pay(*names)

    def slow() -> DeliveryResult:
        room.clock.advance(seconds=80)
        return ACCEPTED

    transport = scripted(slow, slow, slow)
    run = room.send()
    assert (run.sent, run.queued) == (3, 0)
    assert sorted(transport.handed_over) == sorted(names)


def test_result_after_lost_lease_changes_only_certain_mail(room: MailCompany) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")

    def claim() -> list[outbox.ClaimedMail]:
        with room.backend.runtime.writing(OPERATOR) as context:
            lease = context.now + timedelta(seconds=90)
            found = outbox.claimable(context, include_not_due=True)
            return outbox.claim(context, found, lease_until=lease, include_not_due=True)

    late = claim()
    room.clock.advance(seconds=100)
    claim()
    with room.backend.runtime.writing(OPERATOR) as context:
        outbox.mark_failed(context, late[0], "550 unknown")
        outbox.reschedule(context, late[0], "451 later")
        outbox.release(context, late)
    for _ in range(2):
        with room.backend.runtime.statement_writer() as note:
            outbox.mark_sent(note, [late[1]], room.clock.now())
        with room.backend.runtime.writing(OPERATOR) as context:
            outbox.publish_sent(context)
    assert sorted(room.statuses().values()) == ["sending", "sent"]
    assert (room.published("mail_failed"), room.published("mail_sent")) == (0, 1)


def test_revoked_token_claims_nothing_but_sent_mail_is_marked(
    room: MailCompany, scripted: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")
    verdicts: Iterator[bool] = iter([True, True, True, False])  # a snapshot, the beginning, a claim, a claim

    def admit(*_: object) -> None:
        if not next(verdicts):
            raise NotAuthenticated("token_revoked", "This token was revoked.")

    monkeypatch.setattr(local_backend, "authorize", admit)
    monkeypatch.setattr(sending, "MAX_BATCH_MAILS", 1)
    scripted()
    with pytest.raises(NotAuthenticated):
        room.backend.perform_as(Principal("asya", token_id="t1"), SendMail())
    monkeypatch.undo()
    assert sorted(room.statuses().values()) == ["queued", "sent"]
