"""Payout mail on a file: queued once, sent at least once under one Message-ID, to the current address."""

import stat
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import pytest

from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound, Unavailable
from popug_cli.mail import outbox
from popug_cli.mail.sending import send_due
from popug_cli.mail.transport import ACCEPTED, DeliveryResult, Maildir, Verdict
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import UserEmailChanged
from popug_cli.messages.internal.mail import SendDue
from popug_cli.messages.mail import ListMails, MailStatus, RetryMail, ShowMail
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.support.company import InProcess
from tests.support.mail_company import (
    BROKEN,
    BUSY,
    DAY,
    DOWN,
    NEVER,
    MailCompany,
    Use,
    payout,
    read,
    receiver,
    registered,
    room,
    scripted,
)

__all__ = ["room", "scripted"]


# --- queued once ------------------------------------------------------------------------------------


def test_each_payout_is_queued_once(room: MailCompany) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")
    room.pay("kesha", day=DAY + timedelta(days=1))
    mails = sorted((m.to, m.business_date, m.amount_cents, str(m.status), m.attempts) for m in room.mails())
    assert mails == [
        ("gosha@example.com", DAY, 1400, "queued", 0),
        ("kesha@example.com", DAY, 1400, "queued", 0),
        ("kesha@example.com", DAY + timedelta(days=1), 1400, "queued", 0),
    ]


def test_redelivery_and_a_second_payout_of_the_day_queue_nothing(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    before = room.rows("SELECT * FROM mail_outbox")
    room.pay("kesha")
    room.execute("UPDATE bus_cursors SET position = 0 WHERE consumer = 'mail'")
    room.backend.catch_up()
    assert room.rows("SELECT * FROM mail_outbox") == before


# --- the Maildir ------------------------------------------------------------------------------------


def test_mail_lies_in_the_maildir_for_its_owner_only(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    assert room.send().sent == 1
    (file,) = (room.home.maildir / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in ("cur", "new", "tmp"):
        assert stat.S_IMODE((room.home.maildir / folder).stat().st_mode) == 0o700
    assert [*(room.home.maildir / "tmp").iterdir()] == []
    mail = read(file)
    assert receiver(mail) == "kesha@example.com"
    assert b"\r\n" not in file.read_bytes()
    assert (room.statuses(), room.published("mail_sent")) == ({"kesha": "sent"}, 1)


def test_second_run_sends_nothing(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    assert [room.send().sent, room.send().sent] == [1, 0]
    assert len(room.delivered()) == 1


def test_repeat_replaces_the_file_under_the_same_message_id(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    room.send()
    (first,) = room.delivered()
    room.execute("UPDATE mail_outbox SET status = 'queued', sent_at = NULL, sent_to = NULL, told = 0")
    assert room.send().sent == 1
    (second,) = room.delivered()
    assert second.as_bytes() == first.as_bytes()


def test_uncreatable_maildir_is_unavailable(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    room.home.maildir.rmdir()
    room.home.maildir.write_text("in the way")
    with pytest.raises(Unavailable) as refusal:
        room.send()
    assert refusal.value.code == "mail_unavailable"
    assert room.statuses() == {"kesha": "queued"}


def test_unsynced_mail_stays_queued(room: MailCompany, tmp_path: Path, scripted: Use) -> None:
    assert Maildir(tmp_path / "nowhere").settle().verdict is Verdict.UNAVAILABLE
    room.hire("kesha")
    room.pay("kesha")
    scripted(with_marking=False).settled = DOWN
    with pytest.raises(Unavailable):
        room.send()
    assert room.statuses() == {"kesha": "queued"}


# --- the address ------------------------------------------------------------------------------------


def test_address_at_the_time_of_sending_is_used(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    room.publish(UserEmailChanged(user_id="id-kesha", email="new@example.com"))
    room.send()
    room.publish(UserEmailChanged(user_id="id-kesha", email="newer@example.com"))
    assert [receiver(mail) for mail in room.delivered()] == ["new@example.com"]
    assert [mail.to for mail in room.mails()] == ["new@example.com"]


def test_address_changed_in_the_same_batch_is_used(room: MailCompany) -> None:
    room.publish(registered("kesha"), payout("kesha"), UserEmailChanged(user_id="id-kesha", email="new@example.com"))
    assert [mail.to for mail in room.mails()] == ["new@example.com"]


def test_mail_to_an_unknown_user_waits_for_registration(room: MailCompany) -> None:
    room.pay("kesha")
    assert (room.send().sent, [mail.to for mail in room.mails()]) == (0, [""])
    room.hire("kesha")
    assert room.send().sent == 1


def test_invalid_address_fails_only_its_mail(room: MailCompany) -> None:
    room.hire("kesha", "gosha")
    room.publish(UserEmailChanged(user_id="id-kesha", email="no address"))
    room.pay("kesha", "gosha")
    run = room.send()
    assert (run.sent, run.queued, run.failed) == (1, 0, 1)
    assert sorted(str(mail.status) for mail in room.mails()) == ["failed", "sent"]


def test_invalid_sender_keeps_all_mail_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_MAIL_FROM", "nobody")
    room = MailCompany(tmp_path / "home")
    room.hire("kesha")
    room.pay("kesha")
    with pytest.raises(InvalidInput):
        room.send()
    assert send_due(room.backend, SendDue(), OPERATOR).queued == 1
    assert "'nobody' is not a valid mail sender" in room.warnings[0]


# --- results of the transport -----------------------------------------------------------------------


def test_permanently_refused_mail_fails_and_the_rest_is_sent(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha", "vera")
    room.pay("kesha", "gosha", "vera")
    transport = scripted(ACCEPTED, NEVER)
    run = room.send()
    assert (run.sent, run.queued, run.failed) == (2, 0, 1)
    refused = transport.handed_over[1]
    assert room.statuses()[refused] == "failed"
    assert (room.published("mail_sent"), room.published("mail_failed")) == (2, 1)
    (failed,) = room.backend.perform_as(OPERATOR, ListMails(status=MailStatus.FAILED)).mails
    assert (failed.last_error, failed.attempts) == ("550 unknown", 1)


def test_failed_mail_can_be_queued_again(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha")
    room.pay("kesha")
    scripted(NEVER)
    room.send()
    (failed,) = room.mails()
    assert room.backend.perform_as(OPERATOR, RetryMail(mail_id=failed.mail_id)).status is MailStatus.QUEUED
    assert room.backend.perform_as(OPERATOR, RetryMail(mail_id=failed.mail_id)).status is MailStatus.QUEUED
    assert room.send().sent == 1
    with pytest.raises(Conflict):
        room.backend.perform_as(OPERATOR, RetryMail(mail_id=failed.mail_id))


def test_temporarily_refused_mail_is_retried_when_due(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha")
    room.pay("kesha")
    transport = scripted(BUSY, BUSY)
    assert send_due(room.backend, SendDue(), OPERATOR).queued == 1
    (mail,) = room.mails()
    assert (mail.status, mail.attempts, mail.last_error) == (MailStatus.QUEUED, 1, "451 later")
    assert send_due(room.backend, SendDue(), OPERATOR).sent == 0
    assert len(transport.handed_over) == 1
    assert room.send().sent == 0
    assert room.send().sent == 1
    assert len(transport.handed_over) == 3


def test_mail_is_due_again_after_the_wait(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha")
    room.pay("kesha")
    scripted(BUSY)
    send_due(room.backend, SendDue(), OPERATOR)
    room.clock.advance(seconds=61)
    assert send_due(room.backend, SendDue(), OPERATOR).sent == 1


def test_server_that_is_down_stops_the_run(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")
    transport = scripted(DOWN, DOWN)
    with pytest.raises(Unavailable) as refusal:
        room.send()
    assert (refusal.value.code, refusal.value.details) == ("mail_unavailable", {"queued": 2})
    assert len(transport.handed_over) == 1
    assert set(room.statuses().values()) == {"queued"}
    assert room.warnings == []


def test_server_that_goes_down_later_is_a_warning(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")
    scripted(ACCEPTED, DOWN)
    assert room.send().sent == 1
    assert room.warnings == ["Not all mail could be sent: nobody is there."]


def test_close_warns_if_the_mail_server_is_down(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha")
    room.pay("kesha")
    scripted(DOWN)
    assert send_due(room.backend, SendDue(), OPERATOR).queued == 1
    assert "nobody is there" in room.warnings[0]


def test_one_broken_connection_is_replaced_and_two_end_the_run(room: MailCompany, scripted: Use) -> None:
    names = ("kesha", "gosha", "vera", "igor", "olga")
    room.hire(*names)
    room.pay(*names)
    transport = scripted(BROKEN, ACCEPTED, BROKEN, BROKEN)
    assert room.send().sent == 1
    assert len(transport.handed_over) == 4
    assert sorted(room.statuses().values()) == ["queued"] * 4 + ["sent"]


@pytest.mark.parametrize("fault", [BROKEN, DOWN])
def test_mail_that_ends_a_run_does_not_block_others(room: MailCompany, scripted: Use, fault: DeliveryResult) -> None:
    names = [f"w{number}" for number in range(6)]
    room.hire(*names)
    room.pay(*names)
    for include_not_due in (True, False):
        transport = scripted()
        transport.by_receiver = {"w0": fault, "w1": fault}
        for _ in range(3):
            with suppress(Unavailable):
                room.send() if include_not_due else send_due(room.backend, SendDue(), OPERATOR)
            room.clock.advance(seconds=61)
        assert room.statuses() == dict.fromkeys(names, "sent") | {"w0": "queued", "w1": "queued"}
        room.pay(*names[2:], day=DAY + timedelta(days=1))


def test_all_mail_backs_off_while_the_server_is_down(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha", "gosha")
    transport = scripted(*[DOWN] * 99)
    for _ in range(120):
        send_due(room.backend, SendDue(), OPERATOR)
        room.clock.advance(seconds=30)
    assert 5 <= len(transport.handed_over) <= 9
    assert {mail.attempts for mail in room.mails()} == {
        len(transport.handed_over) // 2,
        (len(transport.handed_over) + 1) // 2,
    }


def test_maildir_sync_failure_requeues_all_its_mails(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha", "gosha", "vera")
    room.pay("kesha", "gosha", "vera")
    transport = scripted(with_marking=False)
    transport.settled = DOWN
    assert send_due(room.backend, SendDue(), OPERATOR).queued == 3
    transport.settled = ACCEPTED
    room.clock.advance(seconds=61)
    assert send_due(room.backend, SendDue(), OPERATOR).sent == 3


def test_back_off_ends_when_the_clock_is_set_back(room: MailCompany, scripted: Use) -> None:
    room.hire("kesha")
    room.pay("kesha")
    scripted(BUSY)
    room.clock.advance(days=20)
    send_due(room.backend, SendDue(), OPERATOR)
    assert send_due(room.backend, SendDue(), OPERATOR).queued == 1
    room.clock.advance(days=-20)
    assert send_due(room.backend, SendDue(), OPERATOR).sent == 1


# --- held mail --------------------------------------------------------------------------------------


def test_held_mail_waits_for_its_release(room: MailCompany) -> None:
    room.hire("kesha", "gosha")
    room.pay("kesha")
    room.execute("UPDATE mail_outbox SET held = 1")
    room.pay("gosha")
    run = room.send()
    assert (run.sent, run.queued, run.held) == (1, 1, 1)
    released = room.send(release=True)
    assert (released.sent, released.queued, released.held) == (1, 0, 0)


# --- queries ----------------------------------------------------------------------------------------


def test_mail_can_be_read(room: MailCompany) -> None:
    room.hire("kesha")
    room.pay("kesha")
    (line,) = room.mails()
    queued = room.backend.perform_as(OPERATOR, ShowMail(mail_id=line.mail_id))
    assert (queued.subject, queued.sent_at, queued.held) == ("You are paid $14 for 2026-03-02", None, False)
    assert "#17 Feed the cage" in queued.text
    room.send()
    sent = room.backend.perform_as(OPERATOR, ShowMail(mail_id=line.mail_id))
    assert (sent.sent_at, sent.attempts) == (room.clock.now(), 1)


def test_unknown_mail_is_not_found(room: MailCompany) -> None:
    with pytest.raises(NotFound) as refusal:
        room.backend.perform_as(OPERATOR, ShowMail(mail_id="no-such"))
    assert refusal.value.code == "mail_not_found"
    with pytest.raises(NotFound):
        room.backend.perform_as(OPERATOR, RetryMail(mail_id="no-such"))


def test_claimable_mail_is_found_without_reading_sent_mail(room: MailCompany) -> None:
    limits = dict.fromkeys(("now", "include_not_due", "beyond_waits", "beyond_leases"), "")
    parameters = {outbox.SELECT_CLAIMABLE_IDS: limits, outbox.SELECT_CLAIMABLE: limits | {"mail_ids": ""}}
    with room.backend.runtime.reading(OPERATOR) as context:
        first_steps = [
            str(context.connection.select(f"EXPLAIN QUERY PLAN {statement}", **values)[0][-1])
            for statement, values in parameters.items()
        ]
    assert first_steps == [
        "SCAN mail_outbox USING INDEX mail_outbox_untold",
        "SEARCH mail_outbox USING INDEX sqlite_autoindex_mail_outbox_1 (mail_id=?)",
    ]


# --- from close to mail -----------------------------------------------------------------------------


def test_close_mails_its_payouts(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    task = company.act("kesha", AddTask(title="Feed the cage"))
    company.act("kesha", CompleteTask(number=task.number))
    report = company.act("boss", CloseDay())
    assert (report.mail.sent, report.mail.queued) == (1, 0)
    (file,) = (company.root / "mail" / "new").iterdir()
    mail = read(file)
    assert receiver(mail) == "kesha@example.com"
    assert mail["Subject"].endswith(f"for {date(2026, 3, 2)}")
    assert company.act("boss", CloseDay()).mail.sent == 0
    assert company.warnings == []
