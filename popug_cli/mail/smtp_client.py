"""An SMTP client that limits the time and the length of each server reply."""

import io
import smtplib
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_REPLY_BYTES = 65_536


class BoundedReplies(io.RawIOBase):
    """Stream of server replies. One whole reply may take as long as the socket's time-out for one read."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._seconds = connected.gettimeout() or 0.0
        self.has_timed_out = False
        self.begin()

    def begin(self) -> None:
        """Start the limits for the next reply."""
        self._deadline, self._bytes_left, self._has_begun = time.monotonic() + self._seconds, MAX_REPLY_BYTES, False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the next bytes; raise ``TimeoutError`` if the reply is too slow, ``OSError`` if it is too long."""
        try:
            count = self._receive(buffer) if self._has_begun else self._socket.recv_into(buffer)
        except TimeoutError:
            self.has_timed_out = True
            raise
        self._has_begun = True
        self._bytes_left -= count
        return count

    def _receive(self, buffer: "WriteableBuffer") -> int:
        """Receive within the remaining time. The first read needs no limit but the socket's own time-out."""
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
    """An SMTP client with bounded replies."""

    def getreply(self) -> tuple[int, bytes]:
        """Return code and text of the next reply."""
        if self.file is None:
            assert self.sock is not None
            self._replies = BoundedReplies(self.sock)
            self.file = io.BufferedReader(self._replies)
        self._replies.begin()
        try:
            return super().getreply()
        except smtplib.SMTPServerDisconnected as error:  # smtplib turns a time-out into it
            if self._replies.has_timed_out:
                raise TimeoutError(str(error)) from error
            raise


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same client with implicit TLS."""
