"""Mail over a real SMTP server, aiosmtpd, with each kind of failure; and a sender killed at every step."""

import asyncio
import os
import shutil
import smtplib
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from popug_cli.kernel.errors import Unavailable
from popug_cli.mail import delivery, outbox, transport
from tests.support.mail_company import MailCompany
from tests.support.smtp_server import free_port

NAMES = ("kesha", "gosha", "vera")
FAILED = 70
KILLED = 9


class Office:
    """The reaction of the server to mail; each mail uses one of ``moods``, then all mail is accepted."""

    def __init__(self, *moods: str) -> None:
        self.moods = list(moods)
        self.refused = ""
        self.taken: list[str] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith(f"{self.refused}@"):
            return "550 no such bird"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        mood = self.moods.pop(0) if self.moods else "250 taken"
        if mood.startswith("slow"):
            await asyncio.sleep(float(mood.partition(" ")[2]))
            mood = "250 taken at last"
        if mood == "die" or mood.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.taken.append(str(message_from_bytes(envelope.content)["Message-ID"]))
        if mood == "die":
            assert server.transport is not None
            server.transport.close()
        return mood


class ClosesInData(SMTP):
    """A server that disconnects once, after it answered DATA with 354."""

    closed = 0

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's
        if ClosesInData.closed:
            await super().smtp_DATA(arg)
            return
        ClosesInData.closed += 1
        await self.push("354 go on")
        assert self.transport is not None
        self.transport.close()


@contextmanager
def open_office(office: Office, monkeypatch: pytest.MonkeyPatch, kind: type[SMTP] = SMTP, **how: Any) -> Iterator[None]:
    """The server on a free port, with settings for it; ``ssl_context`` is for TLS from the start."""
    from_start = {"ssl_context": how.pop("ssl_context")} if "ssl_context" in how else {}

    class Server(Controller):
        def factory(self) -> SMTP:
            return kind(self.handler, hostname="localhost", **how)

    server = Server(office, hostname="127.0.0.1", port=free_port(), **from_start)
    chosen = {"TRANSPORT": "smtp", "SMTP_HOST": "localhost", "SMTP_PORT": str(server.port)}
    for name, value in chosen.items():
        monkeypatch.setenv(f"POPUG_MAIL_{name}", value)
    server.start()
    try:
        yield
    finally:
        server.stop()


def filled(folder: Path) -> MailCompany:
    """Three payouts queued."""
    room = MailCompany(folder / "home")
    room.hire(*NAMES)
    room.pay(*NAMES)
    return room


# --- failures of the server ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moods", "left", "copies"),
    [
        (("451 try later",), 1, 3),
        (("250 taken", "451 try later", "452 full"), 2, 3),
        (("die",), 1, 4),
        (("slow 0.2",), 0, 3),
        (("slow 30",), 1, 3),
    ],
)
def test_unsent_mail_is_sent_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moods: tuple[str, ...], left: int, copies: int
) -> None:
    office = Office(*moods)
    monkeypatch.setenv("POPUG_MAIL_SMTP_TIMEOUT_SECONDS", "1")
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
        assert (room.send().queued, room.send().queued) == (left, 0)
    assert (len(office.taken), len(set(office.taken))) == (copies, 3)
    assert set(room.statuses().values()) == {"sent"}


def test_refused_receiver_fails_and_the_rest_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    office.refused = "gosha"
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
        run = room.send()
    assert (run.sent, run.failed, room.statuses()["gosha"]) == (2, 1, "failed")


def test_server_closing_during_data_gets_each_mail_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office, ClosesInData.closed = Office(), 0
    with open_office(office, monkeypatch, ClosesInData):
        room = filled(tmp_path)
        assert (room.send().queued, room.send().queued) == (1, 0)
    assert len(office.taken) == len(set(office.taken)) == 3


def test_mail_stays_queued_while_the_server_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
    with pytest.raises(Unavailable):
        room.send()
    assert set(room.statuses().values()) == {"queued"}


# --- security -----------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = tmp_path / "localhost.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + secret)
    return file


def secured(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def options(security: str, certificate: Path) -> dict[str, Any]:
    if security == "tls":
        return {"ssl_context": secured(certificate)}
    return {"tls_context": secured(certificate), "require_starttls": True}


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_certificate_is_checked_and_trusted_by_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, security: str
) -> None:
    office = Office()
    monkeypatch.setenv("POPUG_MAIL_SMTP_TLS", security)
    with open_office(office, monkeypatch, **options(security, certificate)):
        room = filled(tmp_path)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            room.send()
        assert set(room.statuses().values()) == {"queued"}
        monkeypatch.setenv("POPUG_MAIL_SMTP_CA_FILE", str(certificate))
        room.backend.close()
        assert room.send().sent == 3
    assert len(office.taken) == 3


def test_certificate_of_another_host_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("POPUG_MAIL_SMTP_TLS", "tls")
    monkeypatch.setenv("POPUG_MAIL_SMTP_CA_FILE", str(certificate))
    with open_office(Office(), monkeypatch, ssl_context=secured(certificate)):
        monkeypatch.setenv("POPUG_MAIL_SMTP_HOST", "127.0.0.2")
        room = filled(tmp_path)
        with pytest.raises(Unavailable):
            room.send()


@pytest.mark.parametrize(("password", "sent"), [("a secret", 3), ("a guess", 0)])
def test_sender_logs_in_after_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, password: str, sent: int
) -> None:
    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (b"popug", b"a secret"))

    file = tmp_path / "password"
    file.write_text(password + "\n")
    file.chmod(0o600)
    settings = {"TLS": "starttls", "CA_FILE": str(certificate), "USERNAME": "popug", "PASSWORD_FILE": str(file)}
    monkeypatch.setenv("POPUG_MAIL_SMTP_TIMEOUT_SECONDS", "2")
    for name, value in settings.items():
        monkeypatch.setenv(f"POPUG_MAIL_SMTP_{name}", value)
    office = Office()
    how = options("starttls", certificate) | {"authenticator": check, "auth_required": True}
    with open_office(office, monkeypatch, **how):
        room = filled(tmp_path)
        if sent:
            assert room.send().sent == sent
        else:
            with pytest.raises(Unavailable):
                room.send()
    assert len(office.taken) == sent


# --- killed senders -----------------------------------------------------------------------------

STEPS = (
    (outbox, "claim"),
    (smtplib.SMTP, "send"),
    (transport, "_send_envelope"),
    (transport, "_send_content"),
    (outbox, "mark_sent"),
    (delivery, "_mark_accepted"),
    (delivery, "_finish_batch"),
    (outbox, "publish_sent"),
    (outbox, "release"),
)


def killed_at(point: int, room: MailCompany) -> bool:
    """Send in a process that dies at the n-th boundary of a step. Return whether it reached that boundary."""
    child = os.fork()
    if child == 0:
        try:
            counted = iter(range(10_000))
            for where, name in STEPS:
                _die_around(where, name, counted, point)
            room.backend.close()
            room.send()
            os._exit(0)
        finally:
            os._exit(FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def _die_around(where: Any, name: str, counted: Iterator[int], point: int) -> None:
    step: Callable[..., Any] = getattr(where, name)

    def run(*arguments: Any, **named: Any) -> Any:
        if next(counted) == point:
            os._exit(KILLED)
        answer = step(*arguments, **named)
        if next(counted) == point:
            os._exit(KILLED)
        return answer

    setattr(where, name, run)


def test_killed_sender_loses_no_mail_and_repeats_only_unmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office, point, repeated = Office(), 0, Counter[int]()
    filled(tmp_path).backend.close()
    with open_office(office, monkeypatch):
        while True:
            office.taken.clear()
            shutil.copytree(tmp_path / "home", tmp_path / str(point))
            room = MailCompany(tmp_path / str(point), create=False)
            if not killed_at(point, room):
                break
            room.clock.advance(hours=1)
            room.send()
            assert set(room.statuses().values()) == {"sent"}
            assert (len(set(office.taken)), room.published("mail_sent")) == (3, 3)
            repeated[len(office.taken) - 3] += 1
            point += 1
    assert point > 40
    assert set(repeated) == {0, 1}


def test_mail_is_marked_before_the_next_could_be_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_mark, real_send = outbox.mark_sent, smtplib.SMTP.send

    def mark(note: Any, mails: Any, now: datetime) -> None:
        real_mark(note, mails, now)
        steps.append(f"{len(mails)} marked")

    def send(client: smtplib.SMTP, sent: Any) -> None:
        word = sent.partition(" ")[0].strip() if isinstance(sent, str) else "content"
        steps.append(word)
        real_send(client, sent)

    monkeypatch.setattr(outbox, "mark_sent", mark)
    monkeypatch.setattr(smtplib.SMTP, "send", send)
    with open_office(Office(), monkeypatch):
        assert filled(tmp_path).send().sent == 3
    first, *following, last = " ".join(steps[1:]).split(" content")
    assert (first, last) == ("MAIL RCPT DATA", " 1 marked quit")
    assert len(following) == 2
    for words in following:
        assert words.startswith(" MAIL")
        assert words.replace(" 1 marked", "", 1) == " MAIL RCPT DATA"
        assert " 1 marked" in words


def test_interrupted_marking_is_completed_before_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        monkeypatch.setattr(outbox, "mark_sent", real_mark)
        raise KeyboardInterrupt

    office, real_mark = Office(), outbox.mark_sent
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
        monkeypatch.setattr(outbox, "mark_sent", interrupted)
        with pytest.raises(KeyboardInterrupt):
            room.send()
        assert sorted(room.statuses().values()) == ["queued", "queued", "sent"]
        assert room.send().sent == 2
    assert len(office.taken) == 3


def test_sent_mail_is_marked_though_executor_is_shut_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    office = Office()
    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.submit", no_more)
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
        assert room.send().sent == 3
    assert sorted(room.statuses().values()) == ["sent"] * 3
    assert len(office.taken) == 3


def test_failed_marking_stops_the_next_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Unavailable("disk_full", "The disk is full.")

    office = Office()
    with open_office(office, monkeypatch):
        room = filled(tmp_path)
        with monkeypatch.context() as broken:
            broken.setattr(outbox, "mark_sent", full)
            with pytest.raises(Unavailable, match="disk is full"):
                room.send()
        assert len(office.taken) == 1
        room.clock.advance(hours=1)
        assert room.send().sent == 3
    assert (len(office.taken), len(set(office.taken))) == (4, 3)
