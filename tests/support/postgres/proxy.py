"""A proxy to a PostgreSQL server that loses an answer: the server gets the request, the client gets no answer."""

import socket
import threading
from contextlib import suppress
from typing import Self

from tests.support.postgres.server import HOST

BUFFER_BYTES = 65_536


class AnswerLosingProxy:
    """Passes all bytes on; once armed, it closes the connection after the server's answer to a ``COMMIT`` that writes.

    With ``before_server``, it closes the connection before the server gets the ``COMMIT``.
    """

    def __init__(self, server_port: int, *, before_server: bool = False) -> None:
        self._server_port = server_port
        self._before_server = before_server
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.armed = threading.Event()
        self.lost_count = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server_port))
                self._sockets += [client, server]
                is_losing = threading.Event()
                for target in (self._to_server, self._to_client):
                    threading.Thread(target=target, args=(client, server, is_losing), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, is_losing: threading.Event) -> None:
        has_written = False
        with suppress(OSError):
            while received := client.recv(BUFFER_BYTES):
                has_written = has_written or b"INSERT INTO bus_links" in received
                if self.armed.is_set() and has_written and received.startswith(b"Q") and b"COMMIT" in received:
                    self.armed.clear()
                    self.lost_count += 1
                    if self._before_server:
                        break
                    is_losing.set()
                server.sendall(received)
        _close(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, is_losing: threading.Event) -> None:
        with suppress(OSError):
            while received := server.recv(BUFFER_BYTES):
                if is_losing.is_set():
                    break
                client.sendall(received)
        _close(client, server)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
