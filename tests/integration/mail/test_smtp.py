"""Mail over SMTP, against a server with each kind of failure."""

import os
import socket
import socketserver
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.identity import UserEmailChanged
from tests.support.mail_company import DAY, MailCompany
from tests.support.running_server import PATIENCE_SECONDS
from tests.support.smtp_server import DIE, TAKE_AND_DIE, Mood, Post, smtp_server

NAMES = ("kesha", "gosha", "vera")
Open = Callable[..., MailCompany]
LOGIN = {"smtp_username": "popug", "smtp_login_without_tls": "true"}


@pytest.fixture
def post() -> Iterator[Post]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def open_room(tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A company with three payouts queued, whose mail goes to the server."""

    def open_(**settings: str) -> MailCompany:
        chosen = {"transport": "smtp", "smtp_host": "127.0.0.1", "smtp_port": str(post.port), **settings}
        for name, value in chosen.items():
            monkeypatch.setenv(f"POPUG_MAIL_{name.upper()}", value)
        room = MailCompany(tmp_path / "home")
        room.hire(*NAMES)
        room.pay(*NAMES)
        return room

    return open_


def test_many_mails_go_over_one_connection(post: Post, open_room: Open) -> None:
    room = open_room()
    assert (room.send().sent, post.connections) == (3, 1)
    assert sorted(post.receivers) == sorted(f"{name}@example.com" for name in NAMES)
    assert len(set(post.message_ids)) == 3
    assert [mail.get_content_type() for mail in post.taken] == ["multipart/alternative"] * 3
    assert room.delivered() == []


def test_refused_receiver_fails_and_the_rest_is_sent(post: Post, open_room: Open) -> None:
    post.mood.to_receiver["gosha@example.com"] = "550 no such bird"
    room = open_room()
    run = room.send()
    assert (run.sent, run.queued, run.failed) == (2, 0, 1)
    assert room.statuses() == {"kesha": "sent", "gosha": "failed", "vera": "sent"}
    assert [m.last_error for m in room.mails() if m.last_error] == ["550 no such bird"]


def test_temporarily_refused_mail_is_sent_later(post: Post, open_room: Open) -> None:
    post.mood.to_mail = ["451 try later"]
    room = open_room()
    first = room.send()
    assert (first.sent, first.queued, first.failed) == (2, 1, 0)
    assert room.send().sent == 1
    assert len(set(post.message_ids)) == 3


def test_temporarily_refused_receiver_or_sender_is_sent_later(post: Post, open_room: Open) -> None:
    post.mood.to_receiver["gosha@example.com"] = "450 mailbox busy"
    post.mood.to_sender = ["451 slow down"]
    room = open_room()
    assert room.send().queued >= 1
    post.mood.to_receiver.clear()
    room.send()
    assert set(room.statuses().values()) == {"sent"}


def test_permanently_refused_content_fails_that_mail(post: Post, open_room: Open) -> None:
    post.mood.to_mail = ["554 spam"]
    assert (open_room().send().failed, len(post.taken)) == (1, 2)


def test_disconnected_server_gets_rest_over_new_connection(post: Post, open_room: Open) -> None:
    post.mood.to_mail = ["250 taken", DIE]
    room = open_room()
    run = room.send()
    assert (run.sent, run.queued, post.connections) == (2, 1, 2)
    assert room.send().sent == 1
    assert len(set(post.message_ids)) == len(post.taken) == 3


def test_server_that_says_421_gets_rest_over_new_connection(post: Post, open_room: Open) -> None:
    post.mood.to_mail = ["421 too many"]
    run = open_room().send()
    assert (run.sent, run.queued, run.failed, post.connections) == (2, 1, 0, 2)


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize(
    ("words", "to"),
    [
        ("421 4.7.0 too many", "MAIL"),
        ("421 bye", "RCPT"),
        ("421 bye", "DATA"),
        ("421 bye", "."),
        ("", "MAIL"),
        ("", "RCPT"),
        ("", ""),
        ("452 4.5.3 too many in one session", "MAIL"),
        ("550 5.7.0 too many in one session", "MAIL"),
    ],
)
def test_hang_up_between_mails_costs_no_mail_its_turn(
    post: Post, open_room: Open, limit: int, words: str, to: str
) -> None:
    post.mood.mails_per_connection, post.mood.last_words, post.mood.last_words_to = limit, words, to
    room = open_room()
    room.pay(*NAMES, day=DAY + timedelta(days=1))
    room.pay(*NAMES, day=DAY + timedelta(days=2))
    run = room.send()
    assert (run.sent, run.queued) == (9, 0)
    assert len(post.taken) == len(set(post.message_ids)) == 9
    assert post.connections == -(-9 // limit)
    assert room.warnings == []


def test_hang_up_on_a_new_connection_is_not_retried(post: Post, open_room: Open) -> None:
    post.mood.to_sender = ["421 not now"] * 9
    room = open_room()
    with pytest.raises(Unavailable):
        room.send()
    assert post.connections == 2


def test_server_gone_after_hang_up_keeps_the_rest_queued(post: Post, open_room: Open) -> None:
    post.mood.mails_per_connection, post.mood.last_words = 1, "421 bye"
    room = open_room()
    post.mood.greetings_left = 1
    run = room.send()
    assert (run.sent, run.queued, run.failed) == (1, 2, 0)
    assert "421 closed" in room.warnings[0]


def test_unacknowledged_mail_is_resent_under_the_same_id(post: Post, open_room: Open) -> None:
    post.mood.to_mail = [TAKE_AND_DIE]
    room = open_room()
    room.send()
    assert room.send().sent == 1
    assert (len(post.taken), len(set(post.message_ids))) == (4, 3)


def test_server_that_always_disconnects_ends_the_run(post: Post, open_room: Open) -> None:
    post.mood.to_mail = [DIE] * 9
    room = open_room()
    with pytest.raises(Unavailable):
        room.send()
    assert post.connections == 2
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize("words", ["552 too large", "550 5.3.4 too large for us", "554 5.2.3 too large for them"])
def test_too_large_mail_fails_and_the_rest_is_sent(post: Post, open_room: Open, words: str) -> None:
    post.mood.to_sender = [words]
    room = open_room()
    assert (room.send().failed, len(post.taken)) == (1, 2)
    assert [mail.last_error for mail in room.mails() if mail.last_error] == [words]


def test_absent_server_is_unavailable(post: Post, open_room: Open) -> None:
    room = open_room(smtp_port="1")
    with pytest.raises(Unavailable) as refusal:
        room.send()
    assert refusal.value.code == "mail_unavailable"
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize("mood", [Mood(greeting="554 not today"), Mood(to_sender=["550 not you"] * 3)])
def test_server_that_refuses_the_client_fails_no_mail(post: Post, open_room: Open, mood: Mood) -> None:
    post.mood = mood
    room = open_room()
    with pytest.raises(Unavailable):
        room.send()
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize(("line", "pause"), [(b"250-and\r\n" * 1000, 0.0), (b"2", 0.1)])
def test_endless_answer_times_out(open_room: Open, line: bytes, pause: float) -> None:
    left, outlasted = threading.Event(), []
    until = time.monotonic() + PATIENCE_SECONDS

    class Talker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"220 here\r\n")
            with suppress(OSError):
                while not left.wait(pause):
                    if time.monotonic() > until:
                        outlasted.append(1)
                        return
                    self.request.sendall(line)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talker) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        room = open_room(smtp_port=str(server.server_address[1]), smtp_timeout_seconds="1")
        with pytest.raises(Unavailable, match=r"does not end|timed out"):
            room.send()
        left.set()
        server.shutdown()
    assert not outlasted
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_server_without_required_tls_is_unavailable(post: Post, open_room: Open, security: str) -> None:
    with pytest.raises(Unavailable):
        open_room(smtp_tls=security, smtp_timeout_seconds="2").send()
    assert post.taken == []


@pytest.mark.parametrize("content", ["a secret\nand a remark\n", "a secret\r\n", "\ufeffa secret\r\n"])
def test_it_logs_in_with_the_password_of_the_file(post: Post, open_room: Open, tmp_path: Path, content: str) -> None:
    post.mood.password = "a secret"
    room = open_room(**login(tmp_path / "password", content), smtp_login_without_tls="true")
    assert (room.send().sent, post.logins) == (3, 1)


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", "false"), ("localhost", "false"), ("192.0.2.7", "true")])
def test_login_without_tls_is_refused(
    post: Post, open_room: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, allowed: str
) -> None:
    def connect(address: tuple[str, int], *arguments: Any) -> socket.socket:
        peer = real_connect(("127.0.0.1", address[1]), *arguments)
        return Pretending(peer, address[0]) if address[0] == "192.0.2.7" else peer

    real_connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connect)
    post.mood.password = "a secret"
    room = open_room(smtp_host=host, smtp_login_without_tls=allowed, **login(tmp_path / "password", "a secret\n"))
    with pytest.raises(Unavailable, match=r"mail\.smtp_tls is none.* mail\.smtp_login_without_tls") as refusal:
        room.send()
    assert "a secret" not in refusal.value.message
    assert (post.logins, post.attempts, set(room.statuses().values())) == (0, 0, {"queued"})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610])
def test_password_file_open_to_others_is_refused(post: Post, open_room: Open, tmp_path: Path, mode: int) -> None:
    room = open_room(**login(tmp_path / "password", "a secret\n", mode), smtp_login_without_tls="true")
    with pytest.raises(Unavailable, match=r"Other users can access .*password.*chmod 600"):
        room.send()
    assert (post.attempts, set(room.statuses().values())) == (0, {"queued"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_password_file_of_another_account_is_refused(post: Post, open_room: Open, tmp_path: Path) -> None:
    given = login(tmp_path / "password", "a secret\n")
    os.chown(tmp_path / "password", 12345, -1)
    room = open_room(**given, smtp_login_without_tls="true")
    with pytest.raises(Unavailable, match="Another account owns"):
        room.send()
    assert (post.attempts, set(room.statuses().values())) == (0, {"queued"})


def test_pipe_as_password_file_is_refused(post: Post, open_room: Open, tmp_path: Path) -> None:
    given = login(tmp_path / "password", "")
    (tmp_path / "password").unlink()
    os.mkfifo(tmp_path / "password", 0o600)
    with pytest.raises(Unavailable, match="no password in ASCII can be read"):
        open_room(**given, smtp_login_without_tls="true").send()


class Pretending(socket.socket):
    """A connection that names another peer than it has."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        super().__init__(fileno=connected.detach())
        self.settimeout(PATIENCE_SECONDS)
        self._host = host

    def getpeername(self) -> tuple[str, int]:
        return self._host, 25


def login(file: Path, password: str, mode: int = 0o600) -> dict[str, str]:
    """Write the password file and return the settings that name it."""
    file.write_text(password)
    file.chmod(mode)
    return {"smtp_username": "popug", "smtp_password_file": str(file)}


@pytest.mark.parametrize("file", ["wrong", "missing", ""])
def test_wrong_or_missing_password_fails_no_mail(post: Post, open_room: Open, tmp_path: Path, file: str) -> None:
    post.mood.password = "a secret"
    given = login(tmp_path / "wrong", "a guess\n")
    given["smtp_password_file"] = str(tmp_path / file) if file else ""
    room = open_room(**given, smtp_login_without_tls="true")
    with pytest.raises(Unavailable) as refusal:
        room.send()
    assert "a guess" not in refusal.value.message
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize("reply", ["535 5.7.8 no {}", "535 not <{}>", "535 not 'a guess'", "454 later, {}"])
def test_server_that_quotes_the_password_is_not_quoted(post: Post, open_room: Open, tmp_path: Path, reply: str) -> None:
    post.mood.password, post.mood.to_wrong_login = "a secret", reply
    room = open_room(**login(tmp_path / "password", "a guess\n"), smtp_login_without_tls="true")
    with pytest.raises(Unavailable, match=r"[45]\d\d the reply quotes the password") as refusal:
        room.send()
    assert "guess" not in str(vars(refusal.value))
    assert b64encode(b"\0popug\0a guess").decode() not in refusal.value.message


def test_other_replies_to_a_login_are_quoted(post: Post, open_room: Open, tmp_path: Path) -> None:
    post.mood.password, post.mood.to_wrong_login = "a secret", "534 5.7.9 application password needed"
    room = open_room(**login(tmp_path / "password", "a guess\n"), smtp_login_without_tls="true")
    with pytest.raises(Unavailable, match="application password needed"):
        room.send()


def test_unsupported_address_fails(post: Post, open_room: Open) -> None:
    room = open_room()
    room.publish(UserEmailChanged(user_id="id-gosha", email="гоша@example.com"))
    run = room.send()
    assert (run.sent, run.failed, len(post.taken)) == (2, 1, 2)


def test_empty_host_is_named_in_a_sentence(open_room: Open, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text('[mail]\nsmtp_host = ""\n')
    room = open_room(smtp_host="")  # an empty variable counts as one that is not set
    with pytest.raises(Unavailable, match=r"mail\.smtp_host is empty"):
        room.send()
    assert set(room.statuses().values()) == {"queued"}


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("smtp_host", "...", "...:{port}: there is no host with that name"),
        ("smtp_host", "nowhere.invalid", "nowhere.invalid:{port}: there is no host with that name"),
        ("smtp_port", "1", "127.0.0.1:1: Connection refused"),
        ("smtp_ca_file", "/nowhere", "no certificate can be read from /nowhere, the mail.smtp_ca_file"),
        ("smtp_password_file", "/nowhere", "no password in ASCII can be read from /nowhere, the mail.smtp_password"),
    ],
)
def test_invalid_setting_is_named_in_a_sentence(
    post: Post, open_room: Open, setting: str, value: str, sentence: str
) -> None:
    others = {"smtp_ca_file": {"smtp_tls": "tls"}, "smtp_password_file": LOGIN}
    room = open_room(**{setting: value}, **others.get(setting, {}))
    with pytest.raises(Unavailable) as refusal:
        room.send()
    assert sentence.format(port=post.port) in refusal.value.message
    assert refusal.value.message.endswith(".")
    assert set(room.statuses().values()) == {"queued"}
