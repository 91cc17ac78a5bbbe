"""A TCP proxy in which the network between two processes can be cut and healed."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
BUFFER_BYTES = 65_536
CONNECT_SECONDS = 2.0


class CuttableProxy:
    """Passes all bytes on to the first of several targets that accepts a connection; it begins with another each time.

    During a cut no byte passes in either direction, and new connections get no answer, as if packets were dropped.
    """

    def __init__(self, targets: Callable[[], Sequence[int]]) -> None:
        self._targets = targets
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._is_open = threading.Event()
        self._is_open.set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing pass until ``heal``."""
        self._is_open.clear()

    def heal(self, *, with_reset: bool) -> None:
        """Let bytes pass again; ``with_reset`` breaks the connections that there are, as time-outs of TCP would."""
        if with_reset:
            with self._lock:
                for each in self._sockets:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
        self._is_open.set()

    def close(self) -> None:
        """End the proxy and its connections."""
        self._listener.close()
        self.heal(with_reset=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._is_open.wait()
        server = self._connect()
        if server is None:
            client.close()
            return
        with self._lock:
            self._sockets |= {client, server}
        back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
        back.start()
        self._pass_on(client, server)
        back.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _connect(self) -> socket.socket | None:
        ports = list(self._targets())
        self._count += 1
        for number in range(len(ports)):
            with suppress(OSError):
                port = ports[(self._count + number) % len(ports)]
                server = socket.create_connection((HOST, port), timeout=CONNECT_SECONDS)
                server.settimeout(None)
                return server
        return None

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(BUFFER_BYTES):
                self._is_open.wait()
                target.sendall(received)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
