"""A minimal HTTP/1.1 client (RFC 9112). Importing ``http.client`` would take longer than a whole request.

Each request ends with a response, ``ConnectionError`` (the connection broke), ``TimeoutError`` or ``ProtocolError``
(the response is not valid HTTP). An ``OSError`` on connecting means that nothing was sent.
"""

import socket
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import msgspec

from popug_cli.client.address import Address

CONNECT_TIMEOUT_SECONDS = 5.0
ACCEPT_RETRY_SECONDS = 0.05
RECV_TIMEOUT_SECONDS = 0.5
SEND_TIMEOUT_SECONDS = 30.0
MIN_SENT_BYTES_PER_SECOND = 50_000
MIN_READ_BYTES_PER_SECOND = 1_000
READ_TIMEOUT_SECONDS = 20.0
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_INTERIM_ANSWERS = 10
PIECE_BYTES = 64 * 1024
STATUSES_WITHOUT_BODY = {204, 304}


class ProtocolError(ValueError):
    """The response is not valid HTTP; the text says why."""


class Head(msgspec.Struct, frozen=True):
    """Status and header fields of a response; the field names are in lower case."""

    status: int
    fields: dict[str, str]


class Connection:
    """A connection to a server, for one request after another.

    `is_new`: no request was sent yet. `is_complete`: the whole response was read, and another request may follow.
    """

    def __init__(self, address: Address, opened: socket.socket | None = None) -> None:
        self.address = address
        self.is_new = True
        self.is_complete = False
        self._socket = opened or connect(address)
        self._socket.settimeout(RECV_TIMEOUT_SECONDS)
        self._buffer = b""
        self._wait: Callable[[], None] = _do_nothing
        self._is_rate_checked = True
        self._began: float | None = None
        self._read_bytes = 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def is_reusable(self) -> bool:
        """Return whether the connection is still open and holds no unread bytes."""
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
        """Send a request. Ignore a broken connection: the server may have answered before it closed it."""
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

    def read_head(self, wait: Callable[[], None]) -> Head:
        """Read status and header; call `wait` every ``RECV_TIMEOUT_SECONDS`` while no data arrives."""
        self._wait, self._began, self._read_bytes = wait, None, 0
        for _ in range(MAX_INTERIM_ANSWERS):
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
        return self._read_exactly(_checked_size(int(length[:20])))

    def lines(self, head: Head) -> Iterator[bytes]:
        """Yield the lines of an endless response, each as soon as it is complete."""
        self._is_rate_checked = False
        pieces = self._read_chunks(head, is_endless=True) if "transfer-encoding" in head.fields else self._read_pieces()
        kept = b""
        for piece in pieces:
            *whole, kept = (kept + piece).split(b"\n")
            if len(kept) > MAX_BODY_BYTES:
                raise ProtocolError("a line is too long")
            yield from (line.removesuffix(b"\r") for line in whole)

    def _read_head(self) -> Head:
        first = self._read_line()
        version, _, status_line = first.partition(" ")
        status = status_line.partition(" ")[0]
        if version not in {"HTTP/1.1", "HTTP/1.0"} or len(status) != 3 or not _is_number(status):
            raise ProtocolError("it does not begin with an HTTP status line")
        fields: dict[str, str] = {}
        left = MAX_HEAD_BYTES - len(first)
        while line := self._read_line():
            left -= len(line) + 2
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or left < 0:
                raise ProtocolError("its header is too long or has lines that are not fields")
            fields.setdefault(name.lower(), value.strip())
        return Head(int(status), fields)

    def _read_chunks(self, head: Head, *, is_endless: bool = False) -> Iterator[bytes]:
        if head.fields["transfer-encoding"].lower() != "chunked":
            raise ProtocolError("it has an encoding that was not requested")
        whole = 0
        while True:
            size = self._read_chunk_size()
            whole = 0 if is_endless else _checked_size(whole + size)
            if size == 0:
                break
            yield self._read_exactly(size)
            if self._read_line():
                raise ProtocolError("a chunk is longer than its size says")
        while self._read_line():
            pass

    def _read_chunk_size(self) -> int:
        text = self._read_line().partition(";")[0].strip()
        try:
            return _checked_size(int(text[:20], 16) if text.isalnum() else -1)
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
        pieces, missing = [self._buffer], size - len(self._buffer)
        while missing > 0:
            pieces.append(self._recv())
            missing -= len(pieces[-1])
        content = b"".join(pieces)
        self._buffer = content[size:]
        return content[:size]

    def _read_to_end(self) -> bytes:
        pieces: list[bytes] = []
        for piece in self._read_pieces():
            pieces.append(piece)
            _checked_size(self._read_bytes)
        return b"".join(pieces)

    def _read_pieces(self) -> Iterator[bytes]:
        piece, self._buffer = self._buffer, b""
        while True:
            yield piece
            try:
                piece = self._recv()
            except EOFError:
                return

    def _recv(self) -> bytes:
        """Receive the next bytes; raise an error that is both ``EOFError`` and ``ConnectionError`` at the end."""
        while True:
            self._check_rate()
            try:
                piece = self._socket.recv(PIECE_BYTES)
            except TimeoutError:
                self._wait()
                continue
            if not piece:
                raise _ConnectionEnded("the connection ended before the answer did")
            self._read_bytes += len(piece)
            self._began = self._began or monotonic()
            return piece

    def _check_rate(self) -> None:
        """Raise ``TimeoutError`` if the response has begun but arrives too slowly."""
        if self._began is None or not self._is_rate_checked:
            return
        if monotonic() - self._began > READ_TIMEOUT_SECONDS + self._read_bytes / MIN_READ_BYTES_PER_SECOND:
            raise TimeoutError("the answer arrives too slowly")


class _ConnectionEnded(ConnectionError, EOFError):
    """The server closed the connection."""


def connect(address: Address, seconds: float = CONNECT_TIMEOUT_SECONDS) -> socket.socket:
    """Return a connected socket; raise ``OSError``."""
    if address.path:
        return _connect_to_file(address.path, seconds)
    connection = socket.create_connection((address.host, address.port), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _wrap_tls(connection, address.host) if address.has_tls else connection


def _connect_to_file(path: str, seconds: float) -> socket.socket:
    until = monotonic() + seconds
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        while True:
            try:
                connection.connect(path)
            except BlockingIOError as error:  # the listen backlog is full
                if monotonic() > until:
                    raise TimeoutError("too many clients are waiting") from error
                sleep(ACCEPT_RETRY_SECONDS)
            else:
                return connection
    except BaseException:
        connection.close()
        raise


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


def _checked_size(size: int) -> int:
    """Return the size; raise ``ProtocolError`` if it is negative or too large to keep in memory."""
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ProtocolError("it is too large" if size > 0 else "a length is not a number")
    return size


def _do_nothing() -> None:
    """Default `wait`: do nothing."""
