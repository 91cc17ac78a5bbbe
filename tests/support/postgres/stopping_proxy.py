"""A proxy to a PostgreSQL server that stops its client (SIGSTOP) in the middle of a message or of an answer."""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Self

from tests.support.postgres.server import HOST

BUFFER_BYTES = 65_536
BEGINNING = b"UPDATE bus_head"  # of a write transaction


class StoppingProxy:
    """Passes all bytes on; counts those of the client from the first write transaction on, or those of the answers.

    Once it has passed on ``stop_after`` of them, the process ``pid`` is stopped, and ``stopped`` is set. What follows
    waits until ``resume``.
    """

    def __init__(self, server_port: int, *, counts_answers: bool = False) -> None:
        self._server_port = server_port
        self._counts_answers = counts_answers
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.stop_after: int | None = None
        self.pid = 0
        self.passed_on = 0
        self.stopped = threading.Event()
        self._has_begun = threading.Event()
        self._resumed = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def resume(self) -> None:
        """Let the process go on, and pass on the bytes that follow."""
        os.kill(self.pid, signal.SIGCONT)
        self._resumed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resumed.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server_port))
                self._sockets += [client, server]
                for source, target, is_counted in (
                    (client, server, not self._counts_answers),
                    (server, client, self._counts_answers),
                ):
                    threading.Thread(target=self._pass_on, args=(source, target, is_counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_counted: bool) -> None:
        with suppress(OSError):
            while received := source.recv(BUFFER_BYTES):
                if BEGINNING in received:
                    self._has_begun.set()
                if is_counted and self._has_begun.is_set():
                    received = self._stop_within(received, target)
                target.sendall(received)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _stop_within(self, received: bytes, target: socket.socket) -> bytes:
        """Count the bytes; if the process is to be stopped among them, do so. Return those still to be passed on."""
        left = None if self.stop_after is None or self.stopped.is_set() else self.stop_after - self.passed_on
        self.passed_on += len(received)
        if left is None or left > len(received):
            return received
        target.sendall(received[:left])
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped.set()
        self._resumed.wait()
        return received[left:]
