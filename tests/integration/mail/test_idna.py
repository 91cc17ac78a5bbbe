"""International domains in mail: in ASCII on the wire and in headers (IDNA, RFC 5890 and RFC 5891)."""

import json

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.mail.domains import ascii_address, ascii_domain
from popug_cli.mail.setting_checks import check_sender
from popug_cli.messages.identity import UserEmailChanged
from tests.support.mail_company import MailCompany, receiver
from tests.support.mail_program import Popug, popug, post, room
from tests.support.smtp_server import Post

__all__ = ["popug", "post", "room"]


@pytest.mark.parametrize(
    ("domain", "sent"),
    [
        ("example.com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_domain_is_sent_in_ascii(domain: str, sent: str) -> None:
    assert ascii_domain(domain) == sent


@pytest.mark.parametrize("address", ["grüße@example.com", "a@ü..example", "a@-ü.example", "a@" + "ü" * 70, "a@\ud800"])
def test_address_without_ascii_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        ascii_address(address)


@pytest.mark.parametrize(
    ("sender", "address", "name"),
    [
        ("payroll@bücher.example", "payroll@xn--bcher-kva.example", ""),
        ("Büro <payroll@bücher.example>", "payroll@xn--bcher-kva.example", "Büro"),
        ("Büro <payroll@example.com>", "payroll@example.com", "Büro"),
    ],
)
def test_close_day_sends_from_an_international_domain(
    post: Post, popug: Popug, room: MailCompany, sender: str, address: str, name: str
) -> None:
    assert popug("config", "set", "mail.from", sender)[0] == 0
    code, out, err = popug("close-day", "--json")
    assert (code, json.loads(out)["mail"], err) == (0, {"sent": 5, "queued": 0, "failed": 0}, "")
    assert set(post.senders) == {address}
    (author,) = post.taken[0]["From"].addresses
    assert (author.addr_spec, author.display_name) == (address, name)


def test_receiver_of_an_international_domain_gets_mail(post: Post, popug: Popug, room: MailCompany) -> None:
    room.publish(UserEmailChanged(user_id="id-gosha", email="gosha@bücher.example"))
    assert popug("mail", "send")[0] == 0
    assert "gosha@xn--bcher-kva.example" in post.receivers
    assert "gosha@xn--bcher-kva.example" in map(receiver, post.taken)


@pytest.mark.parametrize(
    "sender", ["grüße@example.com", "Büro <grüße@bücher.example>", "a@ü..example", "a@-ü.example", "a@" + "ü" * 70]
)
def test_sender_without_ascii_form_is_refused_by_config_set(popug: Popug, sender: str) -> None:
    code, _, err = popug("config", "set", "mail.from", sender)
    assert code == 2
    assert "is not a valid mail sender" in err


@pytest.mark.parametrize("sender", ["\udcff <a@example.com>", "\udcff@example.com", "a@\udcff.example"])
def test_sender_of_undecodable_bytes_is_refused(sender: str) -> None:
    with pytest.raises(InvalidInput, match="is not a valid mail sender"):
        check_sender(sender)


def test_invalid_sender_of_environment_keeps_mail_queued(
    popug: Popug, room: MailCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPUG_MAIL_FROM", "grüße@example.com")
    code, out, err = popug("close-day", "--json")
    assert (code, json.loads(out)["mail"]) == (0, {"sent": 0, "queued": 5, "failed": 0})
    assert "is not a valid mail sender" in err


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("SMTP_USERNAME", "pöpug", "mail.smtp_username is not ASCII"),
        ("SMTP_HOST", "ü..example", "there is no host with that name"),
        ("SMTP_HOST", "a" * 64 + ".example", "there is no host with that name"),
    ],
)
def test_setting_without_ascii_form_keeps_mail_queued(
    popug: Popug, room: MailCompany, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    monkeypatch.setenv("POPUG_MAIL_SMTP_LOGIN_WITHOUT_TLS", "true")
    monkeypatch.setenv(f"POPUG_MAIL_{setting}", value)
    code, _, err = popug("mail", "send")
    assert (code, words in err) == (8, True)
    assert set(room.statuses().values()) == {"queued"}
