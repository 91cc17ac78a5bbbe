"""An SMTP client to which a server cannot talk for ever: each reply ends in time and at a bounded length."""

import io
import smtplib
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_REPLY_BYTES = 65_536


class BoundedReplies(io.RawIOBase):
    """What a server says; one reply may last as long, in all, as the socket waits for one byte."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._seconds = connected.gettimeout() or 0.0
        self.begin()

    def begin(self) -> None:
        """A reply is waited for."""
        self._deadline, self._bytes_left, self._has_begun = time.monotonic() + self._seconds, MAX_REPLY_BYTES, False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """The next bytes; raises ``TimeoutError`` or another ``OSError`` for a reply without an end."""
        count = self._receive(buffer) if self._has_begun else self._socket.recv_into(buffer)
        self._has_begun = True
        self._bytes_left -= count
        return count

    def _receive(self, buffer: "WriteableBuffer") -> int:
        """What comes in the rest of the time; most replies come whole, so that their socket's own time is enough."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("its answer does not end in time")
        if self._bytes_left <= 0:
            raise OSError("its answer does not end")
        self._socket.settimeout(remaining)
        try:
            return self._socket.recv_into(buffer)
        finally:
            self._socket.settimeout(self._seconds)


class Client(smtplib.SMTP):
    """A client whose replies are bounded."""

    def getreply(self) -> tuple[int, bytes]:
        """The next reply."""
        if self.file is None:
            assert self.sock is not None
            self._replies = BoundedReplies(self.sock)
            self.file = io.BufferedReader(self._replies)
        self._replies.begin()
        return super().getreply()


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same over TLS from the start."""
