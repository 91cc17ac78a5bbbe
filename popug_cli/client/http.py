"""A minimal HTTP/1.1 client (RFC 9112). Importing ``http.client`` would take longer than a whole request.

A request ends with a response, ``ProtocolError`` (the response is not valid HTTP), ``TimeoutError``, or another
``OSError`` (the connection broke). An ``OSError`` on connecting means that nothing was sent.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import msgspec

from popug_cli.client.address import Address
from popug_cli.platform.accounts import describe_account
from popug_cli.platform.peer import user_id_of_peer

CONNECT_TIMEOUT_SECONDS = 5.0
ACCEPT_RETRY_SECONDS = 0.05
RECV_TIMEOUT_SECONDS = 0.5
SEND_TIMEOUT_SECONDS = 30.0
MIN_SENT_BYTES_PER_SECOND = 50_000
MIN_READ_BYTES_PER_SECOND = 1_000
READ_TIMEOUT_SECONDS = 20.0
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_INTERIM_RESPONSES = 10
MAX_RECV_BYTES = 64 * 1024
STATUSES_WITHOUT_BODY = {204, 304}


class ProtocolError(ValueError):
    """The response is not valid HTTP; the text says why."""


class UntrustedPeerError(PermissionError):
    """The account that listens on a socket is not trusted; ``user_id`` is its user id."""

    def __init__(self, user_id: int) -> None:
        super().__init__(errno.EPERM, f"{describe_account(user_id)} listens there, which is not trusted")
        self.user_id = user_id


class Head(msgspec.Struct, frozen=True):
    """Status and header fields of a response; the field names are in lower case."""

    status: int
    fields: dict[str, str]


class ServerConnection:
    """A connection to a server, for one request after another.

    `is_new`: no request was sent yet. `is_complete`: the last response was read to its end, and another request may
    follow.
    """

    def __init__(self, address: Address, opened: socket.socket | None = None) -> None:
        self.address = address
        self.is_new = True
        self.is_complete = False
        self._socket = opened or connect(address)
        self._socket.settimeout(RECV_TIMEOUT_SECONDS)
        self._buffer = b""
        self._on_idle: Callable[[], None] = _do_nothing
        self._is_rate_checked = True
        self._first_byte_at: float | None = None
        self._received_byte_count = 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def is_reusable(self) -> bool:
        """Return whether the connection is still open and no unread bytes have arrived."""
        if self._buffer:
            return False
        self._socket.setblocking(False)
        try:
            self._socket.recv(1)
        except (BlockingIOError, TimeoutError):
            return True
        except OSError as error:  # a TLS socket without data raises this instead of BlockingIOError
            return type(error).__name__ == "SSLWantReadError"
        finally:
            self._socket.settimeout(RECV_TIMEOUT_SECONDS)
        return False

    def send(self, method: str, target: str, fields: dict[str, str], body: bytes = b"") -> None:
        """Send a request. Ignore a broken connection: the server may have answered before it closed the connection.

        Raise ``TimeoutError`` if the server does not read the request in time.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.address.authority}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join([*lines, "", ""]).encode("ascii") + body
        self.is_new = self.is_complete = False
        self._socket.settimeout(SEND_TIMEOUT_SECONDS + len(request) / MIN_SENT_BYTES_PER_SECOND)
        try:
            self._socket.sendall(request)
        except ConnectionError:
            pass
        finally:
            self._socket.settimeout(RECV_TIMEOUT_SECONDS)

    def read_head(self, on_idle: Callable[[], None]) -> Head:
        """Read status and header; call `on_idle` every ``RECV_TIMEOUT_SECONDS`` while no data arrives."""
        self._on_idle, self._first_byte_at, self._received_byte_count = on_idle, None, 0
        for _ in range(MAX_INTERIM_RESPONSES):
            head = self._read_head()
            if head.status >= 200:
                return head
        raise ProtocolError("it has too many interim answers")

    def read_body(self, head: Head) -> bytes:
        """Read the whole body of the response."""
        if head.fields.get("content-encoding", "identity") != "identity":
            raise ProtocolError("it has an encoding that was not requested")
        content = self._read_body(head)
        self.is_complete = head.fields.get("connection", "keep-alive").lower() == "keep-alive" and not self._buffer
        return content

    def _read_body(self, head: Head) -> bytes:
        if head.status in STATUSES_WITHOUT_BODY:
            return b""
        if "transfer-encoding" in head.fields:
            return b"".join(self._read_chunks(head))
        length = head.fields.get("content-length")
        if length is None:
            return self._read_to_end()
        if not _is_number(length):
            raise ProtocolError("its length is not a number")
        return self._read_exactly(_check_size(int(length[:20])))

    def lines(self, head: Head) -> Iterator[bytes]:
        """Yield the lines of an endless response, each as soon as it is complete."""
        self._is_rate_checked = False
        parts = (
            self._read_chunks(head, is_endless=True)
            if "transfer-encoding" in head.fields
            else self._receive_until_end()
        )
        partial_line = b""
        for received in parts:
            *complete_lines, partial_line = (partial_line + received).split(b"\n")
            if len(partial_line) > MAX_BODY_BYTES:
                raise ProtocolError("a line is too long")
            yield from (line.removesuffix(b"\r") for line in complete_lines)

    def _read_head(self) -> Head:
        status_line = self._read_line()
        version, _, status_and_reason = status_line.partition(" ")
        status = status_and_reason.partition(" ")[0]
        if version not in {"HTTP/1.1", "HTTP/1.0"} or len(status) != 3 or not _is_number(status):
            raise ProtocolError("it does not begin with an HTTP status line")
        fields: dict[str, str] = {}
        remaining_bytes = MAX_HEAD_BYTES - len(status_line)
        while line := self._read_line():
            remaining_bytes -= len(line) + 2
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or remaining_bytes < 0:
                raise ProtocolError("its header is too long or has lines that are not fields")
            fields.setdefault(name.lower(), value.strip())
        return Head(int(status), fields)

    def _read_chunks(self, head: Head, *, is_endless: bool = False) -> Iterator[bytes]:
        if head.fields["transfer-encoding"].lower() != "chunked":
            raise ProtocolError("it has an encoding that was not requested")
        total_bytes = 0
        while True:
            size = self._read_chunk_size()
            total_bytes = 0 if is_endless else _check_size(total_bytes + size)
            if size == 0:
                break
            yield self._read_exactly(size)
            if self._read_line():
                raise ProtocolError("a chunk is longer than its size says")
        while self._read_line():
            pass

    def _read_chunk_size(self) -> int:
        size_text = self._read_line().partition(";")[0].strip()
        try:
            return _check_size(int(size_text[:20], 16) if size_text.isalnum() else -1)
        except ValueError as error:
            raise ProtocolError("a chunk has no valid size") from error

    def _read_line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ProtocolError("a line is too long")
            self._buffer += self._recv()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode("latin-1")

    def _read_exactly(self, size: int) -> bytes:
        parts, missing_bytes = [self._buffer], size - len(self._buffer)
        while missing_bytes > 0:
            parts.append(self._recv())
            missing_bytes -= len(parts[-1])
        content = b"".join(parts)
        self._buffer = content[size:]
        return content[:size]

    def _read_to_end(self) -> bytes:
        parts: list[bytes] = []
        for received in self._receive_until_end():
            parts.append(received)
            _check_size(self._received_byte_count)
        return b"".join(parts)

    def _receive_until_end(self) -> Iterator[bytes]:
        received, self._buffer = self._buffer, b""
        while True:
            yield received
            try:
                received = self._recv()
            except EOFError:
                return

    def _recv(self) -> bytes:
        """Receive the next bytes; call ``_on_idle`` while none arrive.

        Raise an error that is both ``EOFError`` and ``ConnectionError`` at the end, ``TimeoutError`` if the bytes
        arrive too slowly.
        """
        while True:
            self._check_rate()
            try:
                received = self._socket.recv(MAX_RECV_BYTES)
            except TimeoutError:
                self._on_idle()
                continue
            if not received:
                raise _ConnectionEnded("the connection ended before the answer did")
            self._received_byte_count += len(received)
            self._first_byte_at = self._first_byte_at or monotonic()
            return received

    def _check_rate(self) -> None:
        """Raise ``TimeoutError`` if the response has begun but arrives too slowly."""
        if self._first_byte_at is None or not self._is_rate_checked:
            return
        if (
            monotonic() - self._first_byte_at
            > READ_TIMEOUT_SECONDS + self._received_byte_count / MIN_READ_BYTES_PER_SECOND
        ):
            raise TimeoutError("the answer arrives too slowly")


class _ConnectionEnded(ConnectionError, EOFError):
    """The server closed the connection."""


def connect(address: Address, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> socket.socket:
    """Return a connected socket; raise ``OSError``."""
    if address.path:
        return _connect_to_file(address, timeout_seconds)
    connection = socket.create_connection((address.host, address.port), timeout=timeout_seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _wrap_tls(connection, address.host) if address.has_tls else connection


def _connect_to_file(address: Address, timeout_seconds: float) -> socket.socket:
    give_up_at = monotonic() + timeout_seconds
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_seconds)
        while True:
            try:
                connection.connect(address.path)
            except BlockingIOError as error:  # the listen backlog is full
                if monotonic() > give_up_at:
                    raise TimeoutError("too many clients are waiting") from error
                sleep(ACCEPT_RETRY_SECONDS)
            else:
                _check_peer(connection, address)
                return connection
    except BaseException:
        connection.close()
        raise


def _check_peer(connection: socket.socket, address: Address) -> None:
    """Raise ``UntrustedPeerError`` if another account than one of ``trusted_user_ids`` listens on the socket."""
    if address.trusted_user_ids:
        user_id = user_id_of_peer(connection)
        if user_id not in address.trusted_user_ids:
            raise UntrustedPeerError(user_id)


def _wrap_tls(plain: socket.socket, host: str) -> socket.socket:
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _check_size(size: int) -> int:
    """Raise ``ProtocolError`` if a size is negative or over ``MAX_BODY_BYTES``, else return it."""
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ProtocolError("it is too large" if size > 0 else "a length is not a number")
    return size


def _do_nothing() -> None:
    """Default `on_idle`: do nothing."""
