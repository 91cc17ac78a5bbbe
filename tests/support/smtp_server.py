"""A small SMTP server with planned replies, on its own thread."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

DIE = "die"
TAKE_AND_DIE = "take and die"


@dataclass
class Mood:
    """The replies of the server; each list is used from its front, then every command succeeds."""

    greeting: str = "220 here"
    to_sender: list[str] = field(default_factory=list)
    to_receiver: dict[str, str] = field(default_factory=dict)
    to_mail: list[str] = field(default_factory=list)
    greetings_left: int = 1_000_000
    to_hello: str = ""
    mails_per_connection: int = 0
    last_words: str = ""
    last_words_to: str = "MAIL"
    to_all_receivers: str = "250 ok"
    password: str = ""
    to_wrong_login: str = "535 who are you"


@dataclass
class Post:
    """The server and its results."""

    mood: Mood
    port: int = 0
    connections: int = 0
    attempts: int = 0
    logins: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    hellos: list[str] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    asked: int = 0

    @property
    def message_ids(self) -> list[str]:
        return [str(mail["Message-ID"]) for mail in self.taken]


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def smtp_server(mood: Mood | None = None) -> Iterator[Post]:
    post = Post(mood or Mood())

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            post.connections += 1
            _Talk(self, post).run()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        post.port = server.server_address[1]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield post
        finally:
            server.shutdown()
            thread.join()


class _Talk:
    def __init__(self, handler: socketserver.StreamRequestHandler, post: Post) -> None:
        self._handler = handler
        self._post = post
        self._receiver = ""
        self._taken_here = 0

    def run(self) -> None:
        self._post.mood.greetings_left -= 1
        self._say(self._post.mood.greeting if self._post.mood.greetings_left >= 0 else "421 closed")
        while line := self._handler.rfile.readline().decode().strip():
            word, _, argument = line.partition(" ")
            if word.upper() == "QUIT":
                return self._say("221 bye")
            if not self._answer(word.upper(), argument):
                return None
        return None

    def _answer(self, word: str, argument: str) -> bool:
        mood = self._post.mood
        if self._is_full and word == mood.last_words_to:
            if mood.last_words:
                self._say(mood.last_words)
            return mood.last_words[:3] not in {"", "421"}
        if word in {"EHLO", "HELO"} and mood.to_hello:
            self._say(mood.to_hello)
        elif word == "EHLO":
            self._post.hellos.append(argument)
            self._say("250-here")
            self._say("250 AUTH PLAIN")
        elif word == "AUTH":
            self._post.attempts += 1
            good = _password(argument) == mood.password
            self._post.logins += good
            self._say("235 welcome" if good else mood.to_wrong_login.format(argument.removeprefix("PLAIN ")))
        elif word == "MAIL":
            self._post.senders.append(argument.partition("<")[2].partition(">")[0])
            self._say(mood.to_sender.pop(0) if mood.to_sender else "250 ok")
        elif word == "RCPT":
            self._receiver = argument.partition("<")[2].partition(">")[0]
            self._post.asked += 1
            self._say(mood.to_receiver.get(self._receiver, mood.to_all_receivers))
        elif word == "DATA":
            return self._data()
        else:
            self._say("250 ok")
        return True

    @property
    def _is_full(self) -> bool:
        return 0 < self._post.mood.mails_per_connection <= self._taken_here

    def _data(self) -> bool:
        self._say("354 go on")
        mood = self._post.mood
        verdict = mood.to_mail.pop(0) if mood.to_mail else "250 taken"
        if verdict == DIE:
            self._handler.rfile.readline()
            return False
        lines = list(iter(self._handler.rfile.readline, b".\r\n"))
        if self._is_full and mood.last_words_to == ".":
            self._say(mood.last_words)
            return False
        if verdict == TAKE_AND_DIE or verdict.startswith("250"):
            message = BytesParser(policy=policy.default).parsebytes(b"".join(lines))
            assert isinstance(message, EmailMessage)
            self._post.taken.append(message)
            self._post.receivers.append(self._receiver)
        if verdict == TAKE_AND_DIE:
            return False
        self._say(verdict)
        self._taken_here += 1
        if self._is_full and not mood.last_words_to:
            return False
        return not verdict.startswith("421")

    def _say(self, line: str) -> None:
        self._handler.wfile.write(f"{line}\r\n".encode())


def _password(argument: str) -> str:
    import base64

    return base64.b64decode(argument.partition(" ")[2]).decode().split("\0")[-1]
