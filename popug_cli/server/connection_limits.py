"""Limits per connection: the number of connections, the time for a request to arrive, the response to invalid HTTP."""

import asyncio
import ssl
import sys
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from popug_cli.kernel.errors import InvalidInput, PopugError
from popug_cli.messages import problem
from popug_cli.server import http_errors
from popug_cli.server.request_limits import MAX_HEADER_BYTES

HEADER_TIMEOUT_SECONDS = 10.0
KEEP_ALIVE_TIMEOUT_SECONDS = 15
UNREAD_TIMEOUT_SECONDS = 60.0
FREE_FRAGMENTS = 1_000
MIN_FRAGMENT_BYTES = 64


class FragmentLimit(h11.Connection):
    """An h11 connection that rejects bodies sent in too many small chunks."""

    _fragments = 0
    _bytes = 0

    def next_event(self) -> Any:
        """Return the next event; raise ``h11.RemoteProtocolError`` for a body of too many small chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._fragments = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._fragments += 1
            self._bytes += len(event.data)
            if self._fragments > FREE_FRAGMENTS + self._bytes // MIN_FRAGMENT_BYTES:
                raise h11.RemoteProtocolError("body chunks are too small")
        return event


class LimitedConnection(H11Protocol):
    """An HTTP/1.1 connection: at most `max_connections` at a time, and a limit on the time for a request to begin.

    `raw_transport` is the transport below TLS, which carries the encrypted bytes.
    """

    raw_transport: asyncio.Transport | None = None
    _deadline: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _is_half_closed = False

    def __init__(self, *arguments: Any, max_connections: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._max_connections = max_connections
        self.conn = FragmentLimit(h11.SERVER, MAX_HEADER_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new connection, or answer 503 if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(503, http_errors.busy())
            return
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self._on_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers of a closed connection."""
        self._cancel_deadline()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Process received data. Once a request's headers are complete, `RequestGuard` limits its time."""
        cycle_before = self.cycle
        super().handle_events()
        if self.cycle is not cycle_before:
            self._cancel_deadline()

    def on_response_complete(self) -> None:
        """Start the timeout for the next request, or close a half-closed connection."""
        self._cancel_deadline()
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is not cycle:
            return
        if self._is_half_closed:
            self.transport.close()
        self._deadline = self.loop.call_later(KEEP_ALIVE_TIMEOUT_SECONDS + HEADER_TIMEOUT_SECONDS, self._on_deadline)

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read its response."""
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        """Stop that timeout, since the client reads again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_unread_timer()

    def shutdown(self) -> None:
        """Shut down. Abort idle TLS connections, because their peers would not answer the TLS close."""
        super().shutdown()
        if self.raw_transport is not None and self.transport.is_closing() and not self._unsent_bytes:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed plain connection open until its response is sent; TLS cannot be half-closed."""
        cycle = self.cycle
        is_asked = cycle is not None and not cycle.more_body and not cycle.response_started
        self._is_half_closed = is_asked and self.scheme == "http"
        return self._is_half_closed

    def send_400_response(self, msg: str) -> None:
        """Reject data that is not HTTP, or headers that are too large."""
        fault = sys.exception()
        status = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else HTTPStatus.BAD_REQUEST
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(status, http_errors.headers_too_large(MAX_HEADER_BYTES).error)
        else:
            error = InvalidInput("usage", "This is not a valid HTTP request.", hint="Use HTTP/1.1.")
            self._refuse(HTTPStatus.BAD_REQUEST, error)

    @property
    def _unsent_bytes(self) -> int:
        """Return how many bytes the client has not read yet."""
        raw_unsent = self.raw_transport.get_write_buffer_size() if self.raw_transport else 0
        return self.transport.get_write_buffer_size() + raw_unsent

    def _on_deadline(self) -> None:
        if self.transport.is_closing():
            self._start_unread_timer()
        else:
            refused = http_errors.too_slow(HEADER_TIMEOUT_SECONDS)
            self._refuse(refused.status, refused.error)

    def _start_unread_timer(self) -> None:
        """Start the timeout after which the connection is aborted if the client has read nothing."""
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_SECONDS, self._check_progress, self._unsent_bytes)

    def _check_progress(self, unsent_before: int) -> None:
        if self._unsent_bytes < unsent_before:
            self._start_unread_timer()
        else:
            self.transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, status: int, error: PopugError) -> None:
        """Send the error if the protocol state still allows it, then close."""
        body = http_errors.encode(http_errors.problem_of(error, status))
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", problem.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        try:
            events: list[Any] = [
                h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            pass
        self.transport.close()
        self._start_unread_timer()


class TlsHandshake(asyncio.Protocol):
    """Accepts TLS connections. During the handshake they count towards the limit and have the usual timeout."""

    def __init__(
        self, context: ssl.SSLContext, *, max_connections: int, server_state: ServerState, **options: Any
    ) -> None:
        self._context = context
        self._max_connections = max_connections
        self._connections: set[Any] = server_state.connections
        self._make_connection = partial(
            LimitedConnection, max_connections=max_connections, server_state=server_state, **options
        )
        self._connection: LimitedConnection | None = None
        self._received = bytearray()
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake of a new connection, or drop it if there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._connections) >= self._max_connections:
            transport.abort()
            return
        self._connections.add(self)
        transport.pause_reading()
        self._handshake_task = asyncio.get_running_loop().create_task(self._handshake())

    def data_received(self, data: bytes) -> None:
        """Buffer data that arrives together with the end of the handshake."""
        self._received += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting a closed connection."""
        self._is_lost = True
        self._connections.discard(self)
        if self._connection is not None:
            self._connection.connection_lost(exc)

    def shutdown(self) -> None:
        """Abort the connection; the server shuts down."""
        self._transport.abort()

    async def _handshake(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HEADER_TIMEOUT_SECONDS,
                ssl_shutdown_timeout=UNREAD_TIMEOUT_SECONDS,
            )
        except OSError:
            return
        finally:
            self._connections.discard(self)
        if secured is None or self._is_lost:
            return
        self._connection = self._make_connection()
        self._connection.raw_transport = self._transport
        secured.set_protocol(self._connection)
        self._connection.connection_made(secured)
        if self._received:
            self._connection.data_received(bytes(self._received))
