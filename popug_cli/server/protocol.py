"""What one connection may do: how many there are, how long a request may take to come in, what garbage is told."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from popug_cli.kernel.errors import InvalidInput, PopugError
from popug_cli.server import problems, refusals

MAX_CONNECTIONS = 1000
MAX_HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15


class Protocol(H11Protocol):
    """HTTP/1.1, with a bound on the number of connections and on the time in which a request has to begin."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, refusals.busy())
            return
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Work on what came in; from the end of a request's headers on its time is the gate's affair."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request, for no longer than for the first one."""
        self._stop_waiting()
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is cycle and not self.transport.is_closing():
            self._deadline = self.loop.call_later(KEEP_ALIVE_SECONDS + HEADER_SECONDS, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        error = InvalidInput("usage", "This is no HTTP request.", hint="Speak HTTP/1.1, with headers below 32 KiB.")
        self._refuse(400, error)

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            refused = refusals.too_slow(HEADER_SECONDS)
            self._refuse(refused.status, refused.error)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, error: PopugError) -> None:
        """Say why, if that is still possible, and close."""
        body = problems.encode(problems.problem_of(error, status))
        headers: list[tuple[bytes, bytes]] = [
            *self.config.encoded_headers,
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        try:
            events: list[Any] = [
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            pass
        self.transport.close()
