"""HTTP/1.1 as far as one client of one server needs it; ``http.client`` would cost more to import than it all takes.

Whatever a server does ends here in one of four ways: an answer, ``ConnectionError`` (it broke off), ``TimeoutError``
(it took too long) or ``ProtocolError`` (what came is not HTTP). ``OSError`` on connecting means that nothing was sent.
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
    """What came is no HTTP; the text says what was wrong with it."""


class Head(msgspec.Struct, frozen=True):
    """The beginning of an answer: its status, and its fields by their names in small letters."""

    status: int
    fields: dict[str, str]


class Connection:
    """One connection to a server, for requests one after another.

    ``is_new`` before the first, ``is_complete`` when all of an answer was read and another request may follow.
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
        """Hang up."""
        self._socket.close()

    def is_reusable(self) -> bool:
        """Whether it is open still and nothing lies in it that nobody asked for."""
        if self._buffer:
            return False
        self._socket.setblocking(False)
        try:
            self._socket.recv(1)
        except (BlockingIOError, TimeoutError):
            return True
        except OSError as error:  # a TLS socket has its own way to say that nothing is there
            return type(error).__name__ == "SSLWantReadError"
        finally:
            self._socket.settimeout(RECV_TIMEOUT_SECONDS)
        return False

    def send(self, method: str, target: str, fields: dict[str, str], body: bytes = b"") -> None:
        """Send a request; a server that stops listening may have answered all the same."""
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
        """The beginning of the answer; ``wait`` is called now and then while nothing comes."""
        self._wait, self._began, self._read_bytes = wait, None, 0
        for _ in range(MAX_INTERIM_ANSWERS):
            head = self._read_head()
            if head.status >= 200:
                return head
        raise ProtocolError("it never came to an answer")

    def read_body(self, head: Head) -> bytes:
        """The rest of the answer, whole."""
        if head.fields.get("content-encoding", "identity") != "identity":
            raise ProtocolError("the answer is packed in a way that nobody asked for")
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
            raise ProtocolError("the answer gives no length that is a number")
        return self._read_exactly(_checked_size(int(length[:20])))

    def lines(self, head: Head) -> Iterator[bytes]:
        """The lines of an answer that has no end, each as soon as it is whole."""
        self._is_rate_checked = False
        pieces = self._read_chunks(head, is_endless=True) if "transfer-encoding" in head.fields else self._read_pieces()
        kept = b""
        for piece in pieces:
            *whole, kept = (kept + piece).split(b"\n")
            if len(kept) > MAX_BODY_BYTES:
                raise ProtocolError("a line has no end")
            yield from (line.removesuffix(b"\r") for line in whole)

    def _read_head(self) -> Head:
        first = self._read_line()
        version, _, status_line = first.partition(" ")
        status = status_line.partition(" ")[0]
        if version not in {"HTTP/1.1", "HTTP/1.0"} or len(status) != 3 or not _is_number(status):
            raise ProtocolError("its answer does not begin as one")
        fields: dict[str, str] = {}
        left = MAX_HEAD_BYTES - len(first)
        while line := self._read_line():
            left -= len(line) + 2
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or left < 0:
                raise ProtocolError("the head of its answer has lines that are no fields, or too many")
            fields.setdefault(name.lower(), value.strip())
        return Head(int(status), fields)

    def _read_chunks(self, head: Head, *, is_endless: bool = False) -> Iterator[bytes]:
        if head.fields["transfer-encoding"].lower() != "chunked":
            raise ProtocolError("the answer is packed in a way that nobody asked for")
        whole = 0
        while True:
            size = self._read_chunk_size()
            whole = 0 if is_endless else _checked_size(whole + size)
            if size == 0:
                break
            yield self._read_exactly(size)
            if self._read_line():
                raise ProtocolError("a piece of the answer is longer than it says")
        while self._read_line():
            pass

    def _read_chunk_size(self) -> int:
        text = self._read_line().partition(";")[0].strip()
        try:
            return _checked_size(int(text[:20], 16) if text.isalnum() else -1)
        except ValueError as error:
            raise ProtocolError("a piece of the answer gives no length") from error

    def _read_line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ProtocolError("a line of its answer has no end")
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
        """What comes next; raises ``EOFError``, which is a ``ConnectionError`` too, where nothing will."""
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
        """An answer that has begun may not trickle."""
        if self._began is None or not self._is_rate_checked:
            return
        if monotonic() - self._began > READ_TIMEOUT_SECONDS + self._read_bytes / MIN_READ_BYTES_PER_SECOND:
            raise TimeoutError("the answer only trickles in")


class _ConnectionEnded(ConnectionError, EOFError):
    """The other side has hung up."""


def connect(address: Address, seconds: float = CONNECT_TIMEOUT_SECONDS) -> socket.socket:
    """A socket that is connected; raises ``OSError``."""
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
            except BlockingIOError as error:  # more people wait at the door than the system lets in
                if monotonic() > until:
                    raise TimeoutError("too many others are waiting") from error
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
    """A length that is none, or that nobody would hold in memory, is refused."""
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ProtocolError("the answer is larger than any should be" if size > 0 else "a length is no number")
    return size


def _do_nothing() -> None:
    """Nobody waits."""
