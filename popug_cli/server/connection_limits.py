"""Limits on connections: their number, the time until headers are complete, and the answer to invalid HTTP.

uvicorn does not export ``H11Protocol``, so ``pyproject.toml`` pins its minor version. The docstring of each method
names the option of uvicorn that it replaces, or says that there is none. hypercorn bounds less:
decisions/0056-uvicorns-protocol-is-subclassed-hypercorn-bounds-less.md.
"""

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
from popug_cli.server.peers import PEER_KEY, ConnectionBudget, Place
from popug_cli.server.request_limits import MAX_HEADER_BYTES

HEADER_TIMEOUT_SECONDS = 10.0
KEEP_ALIVE_TIMEOUT_SECONDS = 15
UNREAD_TIMEOUT_SECONDS = 60.0
MAX_SMALL_CHUNKS = 1_000
MIN_CHUNK_BYTES = 64


class SmallChunksError(h11.RemoteProtocolError):
    """The chunks of a body are too small: decoding them costs far more than their size suggests."""


class ChunkLimit(h11.Connection):
    """An h11 connection that rejects a body in too many small chunks.

    ``MAX_SMALL_CHUNKS`` are accepted, and one more per ``MIN_CHUNK_BYTES`` of the body. uvicorn has no option for that:
    ``h11_max_incomplete_event_size`` bounds headers, not chunks.
    """

    _chunk_count = 0
    _body_bytes = 0

    def next_event(self) -> Any:
        """Return the next event; raise ``SmallChunksError`` for a body in too many small chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunk_count = self._body_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunk_count += 1
            self._body_bytes += len(event.data)
            if self._chunk_count > MAX_SMALL_CHUNKS + self._body_bytes // MIN_CHUNK_BYTES:
                raise SmallChunksError("body chunks are too small")
        return event


class LimitedConnection(H11Protocol):
    """An HTTP/1.1 connection. `budget` limits how many there are; the headers of a request must be complete in time.

    `raw_transport` is the transport below TLS, which carries the encrypted bytes.
    """

    raw_transport: asyncio.Transport | None = None
    _deadline: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _is_half_closed = False
    _place: Place | None = None

    def __init__(self, *arguments: Any, budget: ConnectionBudget, **options: Any) -> None:
        """Replaces ``h11_max_incomplete_event_size``, because uvicorn's own ``h11.Connection`` counts no chunks."""
        super().__init__(*arguments, **options)
        self._budget = budget
        self.conn = ChunkLimit(h11.SERVER, MAX_HEADER_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new connection, or answer 503 if there are too many.

        Replaces ``limit_concurrency``, which does not distinguish peers, and answers only after the headers, so that
        silent clients could occupy all file descriptors.
        """
        super().connection_made(transport)
        self._place = self._budget.acquire(self.raw_transport or transport, self._on_eviction)
        if self._place is None:
            self._reject(503, http_errors.busy())
            return
        self.app_state = self.app_state | {PEER_KEY: self._place.peer}
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self._on_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers of a closed connection, and release its place; uvicorn has no option for either."""
        self._cancel_deadline()
        self._stop_unread_timer()
        if self._place is not None:
            self._place.release()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Process received data. Once a request's headers are complete, `RequestGuard` limits its time.

        A connection whose request is complete is not evicted before its response. uvicorn has no option
        for the time of headers.
        """
        previous_cycle = self.cycle
        super().handle_events()
        if self.cycle is not previous_cycle:
            self._cancel_deadline()
        is_complete = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if is_complete and self._place is not None:
            self._place.mark_busy()

    def on_response_complete(self) -> None:
        """Start the timeout for the headers of the next request; close a half-closed connection.

        Replaces ``timeout_keep_alive``, whose timer the first byte of the next request stops.
        """
        self._cancel_deadline()
        cycle = self.cycle
        cycle.body.clear()  # a response may precede the end of its request
        super().on_response_complete()
        if self.cycle is not cycle:
            return
        if self._place is not None:
            self._place.mark_idle()
        if self._is_half_closed:
            self.transport.close()
        self._deadline = self.loop.call_later(KEEP_ALIVE_TIMEOUT_SECONDS + HEADER_TIMEOUT_SECONDS, self._on_deadline)

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read its response; uvicorn has no option for it."""
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        """Stop the timeout of ``pause_writing``, because the client reads again; uvicorn has no option for it."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_unread_timer()

    def shutdown(self) -> None:
        """Shut down. Abort idle TLS connections, because their peers would not answer the TLS close.

        For them, this replaces ``timeout_graceful_shutdown``, which is as long as a request may run.
        """
        super().shutdown()
        if self.raw_transport is not None and self.transport.is_closing() and not self._unsent_bytes:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a plain connection open after the client half-closed it, if a complete request awaits its response.

        A TLS connection cannot be half-closed. uvicorn has no option for half-closed connections and closes them.
        """
        cycle = self.cycle
        awaits_response = cycle is not None and not cycle.more_body and not cycle.response_started
        self._is_half_closed = awaits_response and self.scheme == "http"
        return self._is_half_closed

    def send_400_response(self, msg: str) -> None:
        """Reject data that is not valid HTTP, headers that are too large, and chunks that are too small.

        uvicorn has no option for its answer, a text with status 400.
        """
        protocol_error = sys.exception()
        status = (
            protocol_error.error_status_hint
            if isinstance(protocol_error, h11.RemoteProtocolError)
            else HTTPStatus.BAD_REQUEST
        )
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._reject(status, http_errors.headers_too_large(MAX_HEADER_BYTES).error)
        elif isinstance(protocol_error, SmallChunksError):
            self._reject(status, http_errors.chunks_too_small().error)
        else:
            error = InvalidInput("usage", "This is not a valid HTTP request.", hint="Use HTTP/1.1.")
            self._reject(HTTPStatus.BAD_REQUEST, error)

    @property
    def _unsent_bytes(self) -> int:
        """Return how many bytes the client has not read yet."""
        raw_unsent = self.raw_transport.get_write_buffer_size() if self.raw_transport else 0
        return self.transport.get_write_buffer_size() + raw_unsent

    def _on_eviction(self) -> None:
        """Reject an idle connection, because a new one needs its place; do not wait for it to read the error."""
        self._cancel_deadline()
        self._reject(503, http_errors.busy())
        if self._unsent_bytes or self.raw_transport is not None:
            self.transport.abort()

    def _on_deadline(self) -> None:
        """Reject a request whose headers are not complete in time."""
        if self.transport.is_closing():
            self._start_unread_timer()
        else:
            rejection = http_errors.too_slow()
            self._reject(rejection.status, rejection.error)

    def _start_unread_timer(self) -> None:
        """Start the timeout after which the connection is aborted if the client has read nothing."""
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_SECONDS, self._check_progress, self._unsent_bytes)

    def _check_progress(self, previous_unsent_bytes: int) -> None:
        if self._unsent_bytes < previous_unsent_bytes:
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

    def _reject(self, status: int, error: PopugError) -> None:
        """Send the error unless a response has begun, then close the connection."""
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
    """Performs the TLS handshake of a connection, then passes it to a ``LimitedConnection``.

    A connection counts towards the limit during its handshake, which may take ``HEADER_TIMEOUT_SECONDS``. Replaces
    ``ssl_certfile`` and ``ssl_keyfile``: uvicorn passes no ``ssl_handshake_timeout`` to asyncio, whose default is 60 s.
    """

    def __init__(
        self, context: ssl.SSLContext, *, budget: ConnectionBudget, server_state: ServerState, **options: Any
    ) -> None:
        self._context = context
        self._budget = budget
        self._place: Place | None = None
        self._connections: set[Any] = server_state.connections
        self._make_connection = partial(LimitedConnection, budget=budget, server_state=server_state, **options)
        self._connection: LimitedConnection | None = None
        self._received = bytearray()
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake of a new connection, or drop it if there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._place = self._budget.acquire(transport, transport.abort)
        if self._place is None:
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
        self._stop_counting()
        if self._connection is not None:
            self._connection.connection_lost(exc)

    def shutdown(self) -> None:
        """Abort the connection; the server shuts down."""
        self._transport.abort()

    def _stop_counting(self) -> None:
        """Release the place of the handshake; a connection that follows takes it again at once."""
        self._connections.discard(self)
        if self._place is not None:
            self._place.release()

    async def _handshake(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            tls_transport = await loop.start_tls(
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
            self._stop_counting()
        if tls_transport is None or self._is_lost:
            return
        self._connection = self._make_connection()
        self._connection.raw_transport = self._transport
        tls_transport.set_protocol(self._connection)
        self._connection.connection_made(tls_transport)
        if self._received:
            self._connection.data_received(bytes(self._received))
