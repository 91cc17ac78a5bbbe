"""A server that sends the replies that a test gives it, and records its requests."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popug_cli import __version__

Reply = bytes | Callable[[socket.socket], None]
LONGEST_WAIT_SECONDS = 30


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
