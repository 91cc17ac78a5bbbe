"""A server that sends the replies that a test gives it, and records its requests; its usual replies, and a client."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from popug_cli import __version__
from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import LogIn, WhoAmI
from popug_cli.messages.tasks import CompleteTask

Reply = bytes | Callable[[socket.socket], None]
LONGEST_WAIT_SECONDS = 30
ADA = {"user_id": "u1", "username": "ada", "email": "ada@popug.example", "role": "admin", "active": True}
TASK = {
    **{"task_id": "t1", "number": 1, "title": "Feed the cage", "jira_id": None, "status": "completed"},
    **{"creator": "ada", "assignee": "kesha", "fee_cents": 1200, "reward_cents": 3400},
    **{"created_at": "2026-03-02T09:00:00Z", "completed_at": "2026-03-02T09:30:00.500000Z"},
}
SESSION = {"user": ADA, "token": "a.b.c", "expires_at": "2026-03-02T21:00:00Z", "device_token": "d.e.f"}
COMMAND, QUERY, SECRET = CompleteTask(number=1), WhoAmI(), LogIn(username="ada", password="seven cages")
HANG_UP: Reply = b""
PLAIN = {"Popug-Version": __version__, "Content-Type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """A received request."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    connection: int


def answer(
    document: Any,
    status: int = 200,
    *,
    kind: str = "application/json",
    version: str | None = __version__,
    **fields: str,
) -> bytes:
    """Return a complete answer with a JSON document."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = {"Content-Type": kind, "Content-Length": str(len(body)), "Popug-Time-Zone": "Europe/Berlin"}
    if version is not None:
        given["Popug-Version"] = version
    given |= {name.replace("_", "-"): value for name, value in fields.items()}
    return head(status, given) + body


def head(status: int, fields: dict[str, str]) -> bytes:
    """Return the head of an answer."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


STREAM = head(200, PLAIN | {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def events(*sequences: int) -> bytes:
    """Return a chunk of a stream with a comment and these events."""
    text = "".join(f'id: {n}\nevent: x\ndata: {{"sequence":"{n}"}}\n\n' for n in sequences)
    return f"{len(text) + 3:x}\r\n: \n{text}\r\n".encode()


def problem(code: str, exit_status: int, status: int, **more: Any) -> bytes:
    """Return an answer with a problem document."""
    document = {"type": f"urn:popug:error:{code}", "code": code, "detail": "It is so.", "exit_status": exit_status}
    return answer(document | more, status, kind="application/problem+json")


class FakeServer:
    """A server on a Unix socket; each request gets the next reply, the last one always. An empty reply hangs up."""

    def __init__(self, path: Path, replies: Iterable[Reply], *, health: Reply | None = None) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.asked: list[Asked] = []
        self.connections = 0
        self._replies = list(replies)
        self._health = health
        self._lock = threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection, self.connections), daemon=True).start()

    def _talk(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(LONGEST_WAIT_SECONDS)
        with connection, connection.makefile("rb") as stream:
            try:
                while (request := read_request(stream, number)) is not None:
                    reply = self._take(request)
                    if not reply:
                        return None
                    if callable(reply):
                        return reply(connection)
                    connection.sendall(reply)
            except OSError:
                return None

    def _take(self, request: Asked) -> Reply:
        with self._lock:
            if request.target == "/healthz" and self._health is not None:
                return self._health
            self.asked.append(request)
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def read_request(stream: Any, number: int) -> Asked | None:
    """Read one request; return None if the client has hung up."""
    first = stream.readline().decode()
    if not first:
        return None
    method, target, _ = first.split()
    fields: dict[str, str] = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(": ")
        assert name not in fields
        fields[name] = value
    return Asked(method, target, fields, stream.read(int(fields.get("Content-Length", 0))), number)


def saying(*pieces: bytes, then: Callable[[], None] = lambda: None) -> Reply:
    """Return a reply in pieces with a wrong length, which then hangs up."""

    def reply(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            then()

    return reply


Serve = Callable[..., FakeServer]


def reach(server: FakeServer, **more: Any) -> RemoteBackend:
    """Return a client of the server."""
    return RemoteBackend(parse(server.url), **more)


def refusal(work: Callable[[], Any]) -> PopugError:
    """Return the error of a call that must fail: a sentence with a hint, and exit 8."""
    with pytest.raises(PopugError) as caught:
        work()
    error = caught.value
    assert error.exit_status == 8
    assert error.hint
    assert error.message.endswith(".")
    assert "\n" not in error.message
    return error
