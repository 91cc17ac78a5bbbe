"""Refusals over SMTP: a fault of the sender's set-up keeps mail queued, a fault of the receiver fails it."""

import json
import socket

import pytest

from popug_cli.mail.domains import hello_name
from popug_cli.mail.rules import Blame, blame_of
from tests.support.mail_company import MailCompany
from tests.support.mail_program import Popug, popug, post, room
from tests.support.smtp_server import Post

__all__ = ["popug", "post", "room"]

HELLO_REFUSED = "504 5.5.2 <box>: Helo command rejected: need fully-qualified hostname"


# --- the name in EHLO -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host_name", "name"),
    [
        ("laptop", "[127.0.0.1]"),
        ("mail.popug.example", "mail.popug.example"),
        ("my_box.example", "[127.0.0.1]"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("", "[127.0.0.1]"),
        ("10.0.0.7", "[127.0.0.1]"),
    ],
)
def test_hello_is_a_domain_or_an_address_literal(
    post: Post, popug: Popug, room: MailCompany, monkeypatch: pytest.MonkeyPatch, host_name: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host_name)
    assert popug("mail", "send")[0] == 0
    assert post.hellos == [name]


@pytest.mark.parametrize("name", ["out.popug.example", "[192.0.2.7]", "[IPv6:2001:db8::7]"])
def test_hello_is_the_configured_name(post: Post, popug: Popug, room: MailCompany, name: str) -> None:
    assert popug("config", "set", "mail.smtp_hello_name", name)[0] == 0
    assert popug("mail", "send")[0] == 0
    assert post.hellos == [name]


@pytest.mark.parametrize("name", ["laptop", "two words.example", "[nonsense]", "a..example", "192.0.2.7"])
def test_invalid_hello_name_is_refused(popug: Popug, name: str) -> None:
    code, _, err = popug("config", "set", "mail.smtp_hello_name", name)
    assert code == 2
    assert "mail.smtp_hello_name" in err


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.7", "[192.0.2.7]"),
        ("::1", "[IPv6:::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.7", "[192.0.2.7]"),
        ("", "[127.0.0.1]"),
    ],
)
def test_address_literal_follows_rfc_5321(address: str, literal: str) -> None:
    assert hello_name("", "laptop", address) == literal


# --- the set-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        HELLO_REFUSED,
        "550 5.7.1 Unable to relay",
        "554 5.7.1 <kesha@example.com>: Relay access denied",
        "550 5.7.1 <popug@localhost>: Sender address rejected: not owned by user",
        "553 sorry, that domain isn't in my list of allowed rcpthosts",
        "530 5.7.0 Authentication required",
        "535 5.7.8 bad login",
        "503 5.5.1 valid MAIL first",
        "550 no",
        "554 5.7.1 policy",
    ],
)
def test_refusal_of_all_receivers_keeps_mail_queued(post: Post, popug: Popug, room: MailCompany, words: str) -> None:
    post.mood.to_all_receivers = words
    code, out, err = popug("close-day", "--json")
    assert (code, json.loads(out)["mail"]) == (0, {"sent": 0, "queued": 5, "failed": 0})
    assert "could not be sent" in err
    assert words in err
    assert set(room.statuses().values()) == {"queued"}
    post.mood.to_all_receivers = "250 ok"
    assert json.loads(popug("mail", "send", "--json")[1])["sent"] == 5


def test_refused_hello_keeps_mail_queued(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_hello = "550 5.7.1 who are you"
    code, _, err = popug("mail", "send")
    assert (code, set(room.statuses().values())) == (8, {"queued"})
    assert "550 5.7.1 who are you" in err


def test_refusal_of_all_content_keeps_mail_queued(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_mail = ["554 5.7.1 policy"] * 5
    assert popug("mail", "send")[0] == 8
    assert set(room.statuses().values()) == {"queued"}


def test_set_up_refusal_stops_the_run_after_ten(post: Post, popug: Popug, room: MailCompany) -> None:
    room.hire(*(more := [f"bird{number}" for number in range(9)]))
    room.pay(*more)
    post.mood.to_all_receivers = HELLO_REFUSED
    popug("mail", "send")
    assert post.asked == 10


def test_relay_denied_for_one_domain_delays_only_its_mail(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_receiver["gosha@example.com"] = "554 5.7.1 <gosha@example.com>: Relay access denied"
    code, out, err = popug("mail", "send")
    assert (code, out.splitlines()[0]) == (0, "4 mails were sent, 1 still to be sent.")
    assert "Relay access denied" in err
    assert room.statuses()["gosha"] == "queued"


def test_one_refused_receiver_of_many_fails(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_receiver["gosha@example.com"] = "550 no"
    code, out, err = popug("close-day", "--json")
    assert (code, json.loads(out)["mail"]) == (0, {"sent": 4, "queued": 0, "failed": 1})
    assert "1 mail was rejected permanently" in err


def test_policy_that_begins_within_a_run_keeps_mail_queued(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_mail = ["250 taken", "250 taken", *["554 5.7.1 daily quota is used up"] * 3]
    code, out, err = popug("close-day", "--json")
    assert (code, json.loads(out)["mail"]) == (0, {"sent": 2, "queued": 3, "failed": 0})
    assert "daily quota" in err
    post.mood.to_mail = ["550 no", "250 taken", "550 no"]
    again = json.loads(popug("mail", "send", "--json")[1])
    assert (again["sent"], again["queued"], again["failed"]) == (1, 0, 2)


def test_unknown_receivers_fail_though_all_are_refused(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_all_receivers = "550 5.1.1 User unknown in relay recipient table"
    assert popug("mail", "send")[0] == 0
    assert set(room.statuses().values()) == {"failed"}


@pytest.mark.parametrize(
    ("reply", "blame"),
    [
        (HELLO_REFUSED, Blame.SETUP),
        ("504 5.5.2 <k@box>: Recipient address rejected: need fully-qualified address", Blame.RECEIVER),
        ("550 5.1.1 <relay@x.example>: Recipient address rejected: User unknown", Blame.RECEIVER),
        ("550 <relay@x.example>: no such user", Blame.RECEIVER),
        ("553 5.1.8 sender domain not found", Blame.SETUP),
        ("550 5.7.26 this mail is unauthenticated", Blame.SETUP),
        ("554 spam", Blame.UNCLEAR),
        ("552 5.2.2 mailbox full", Blame.RECEIVER),
        ("550", Blame.UNCLEAR),
        ("550 5.1.1 Your HELO name is invalid", Blame.SETUP),
        ("550 5.1.1 authentication required for relay", Blame.SETUP),
        ("550-Verification failed for <popug@localhost> No Such User Here Sender verify failed", Blame.SETUP),
        ("550 Sender domain does not exist", Blame.SETUP),
        ("553 5.1.8 <popug@localhost>: Sender address rejected: Domain not found", Blame.SETUP),
        ("550 5.1.2 relaying denied", Blame.SETUP),
        ("550 5.1.1 User unknown in relay recipient table", Blame.RECEIVER),
        ("550 5.1.1 The account does not exist. The sender should check the address", Blame.RECEIVER),
    ],
)
def test_reply_is_blamed_on_setup_receiver_or_neither(reply: str, blame: Blame) -> None:
    assert blame_of(reply) is blame


# --- what failed is shown ---------------------------------------------------------------------------


@pytest.fixture
def failed(post: Post, popug: Popug, room: MailCompany) -> MailCompany:
    """Two of the five mails failed."""
    for name in ("gosha", "vera"):
        post.mood.to_receiver[f"{name}@example.com"] = "550 5.1.1 no such bird"
    code, out, err = popug("close-day")
    assert (code, "2 rejected permanently" in out) == (0, True)
    assert "popug mail list --status failed" in err
    post.mood.to_receiver.clear()
    return room


def test_doctor_and_today_show_failed_mail(popug: Popug, failed: MailCompany) -> None:
    out = popug("doctor")[1]
    assert "ATTENTION failed_mail: 2 mails were rejected permanently" in out
    assert "2 mails were rejected permanently" in popug("today")[1]
    today = json.loads(popug("today", "--json")[1])
    assert (today["mail_failed"], "popug mail list --status failed" in today["waiting"]) == (2, True)


@pytest.mark.parametrize("step", ["to_all_receivers", "to_hello", "greeting"])
def test_doctor_shows_mail_refused_for_the_setup(
    post: Post, popug: Popug, room: MailCompany, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(post.mood, step, HELLO_REFUSED)
        popug("close-day")
    code, out, _ = popug("doctor", "--strict", "--quiet")
    assert code == 7
    assert "ATTENTION unsent_mail: 5 mails are not sent: " in out
    assert HELLO_REFUSED in out
    assert popug("mail", "send")[0] == 0
    assert "unsent_mail" not in popug("doctor", "--strict", "--quiet")[1]


@pytest.mark.parametrize(
    ("setting", "value"), [("POPUG_MAIL_SMTP_USERNAME", "polly"), ("POPUG_MAIL_FROM", "b\u00fcro@example.com")]
)
def test_doctor_shows_mail_that_a_setting_stops(
    popug: Popug, room: MailCompany, setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(setting, value)
        popug("close-day")
        assert "ATTENTION unsent_mail: 5 mails are not sent: " in popug("doctor", "--strict", "--quiet")[1]


def test_doctor_is_silent_about_mail_refused_for_now(post: Post, popug: Popug, room: MailCompany) -> None:
    post.mood.to_all_receivers = "451 4.7.1 greylisted, retry in 550 seconds"
    popug("close-day")
    room.execute("UPDATE mail_outbox SET queued_at = '2999-01-01T00:00:00.000000Z'")
    assert "unsent_mail" not in popug("doctor", "--strict", "--quiet")[1]
    room.execute("UPDATE mail_outbox SET queued_at = '2020-01-01T00:00:00.000000Z'")
    assert "not sent: 451 4.7.1 greylisted" in popug("doctor", "--strict", "--quiet")[1]


def test_retry_all_queues_every_failed_mail(popug: Popug, failed: MailCompany) -> None:
    code, out, _ = popug("mail", "retry", "--all")
    assert (code, out.splitlines()[0]) == (0, "2 mails were queued again.")
    assert failed.published("mail_requeued") == 2
    assert json.loads(popug("mail", "send", "--json")[1])["sent"] == 2
    assert json.loads(popug("mail", "retry", "--all", "--json")[1]) == {"requeued": 0}
    assert "ATTENTION failed_mail" not in popug("doctor")[1]


@pytest.mark.parametrize("arguments", [(), ("some-id", "--all")])
def test_retry_needs_an_id_or_all(popug: Popug, arguments: tuple[str, ...]) -> None:
    assert popug("mail", "retry", *arguments)[0] == 2
