"""Perform messages on a server. Imports are kept small, so that commands start fast."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from popug_cli import __version__
from popug_cli.client.address import Address
from popug_cli.client.errors import ServerErrors, error_from_problem
from popug_cli.client.http import Head, ProtocolError, ServerConnection
from popug_cli.client.requests import HttpRequest, build_request, header_fields, stream_request
from popug_cli.kernel import positions
from popug_cli.kernel.positions import KnownPositions
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.kernel.version import series_of
from popug_cli.messages import problem
from popug_cli.messages.base import DECLARATIONS, Access, Message

if TYPE_CHECKING:
    from datetime import datetime
    from socket import socket

    from popug_cli.kernel.calendar import Calendar
    from popug_cli.messages.bus import EnvelopeDocument, ListEvents

Answer = TypeVar("Answer")

RETRY_DELAYS_SECONDS = (0.0, 0.2, 1.0)
PROBE_AFTER_SECONDS = 10.0
HEALTH_TIMEOUT_SECONDS = 5.0
STREAM_TIMEOUT_SECONDS = 45.0
GATEWAY_ERROR_STATUSES = {502, 503, 504}
OK = 200
WAITING = "Waiting for the server"
STILL_RUNNING = "the server continues with the request, so it may still take effect. Check before you repeat it."
JSON_TYPES = {"application/json", problem.MEDIA_TYPE}


class RemoteBackend:
    """A company behind a server. `warn` receives the warnings of each response.

    ``positions`` are those of all answers; each request has them. ``is_replayed`` says whether the server has answered
    the last command before, under the same idempotency key; ``home_id`` and ``time_zone`` are those of the company.
    With ``are_parts``, another service of the company's cluster asks, and the messages are parts of what it performs.
    """

    def __init__(
        self,
        address: Address,
        *,
        warn: Callable[[str], None] = lambda warning: None,
        progress: Progress = no_progress,
        opened: "socket | None" = None,
        are_parts: bool = False,
    ) -> None:
        self.address = address
        self._are_parts = are_parts
        self.warn = warn
        self._progress = progress
        self._errors = ServerErrors(address.url)
        self._connection = ServerConnection(address, opened) if opened else None
        self._is_waiting = False
        self._is_sent = False
        self.home_id, self.time_zone = "", ""
        self._date_field, self._date_received_at = "", 0.0
        self.positions = KnownPositions()
        self.is_replayed = False

    def close(self) -> None:
        """Close the connection that is kept for the next request."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def calendar(self) -> "Calendar":
        """Return the calendar of the company's time zone, which each response names; raise ``unknown_time_zone``."""
        from popug_cli.kernel.calendar import company_calendar

        if not self.time_zone:
            self._fetch_server_info()
        return company_calendar(self.time_zone)

    def now(self) -> "datetime":
        """Return the local time if it agrees with the server's time, else the server's time.

        The server's time comes from the ``Date`` field of a response, which has whole seconds only.
        """
        from datetime import UTC, datetime

        from popug_cli.client.http_date import CLOCK_TOLERANCE, instant_of

        if not self._date_field:
            self._fetch_server_info()
        try:
            server_time = instant_of(self._date_field, later_seconds=monotonic() - self._date_received_at)
        except ValueError as error:
            raise self._errors.malformed("it has no valid date") from error
        local_time = datetime.now(UTC)
        return local_time if server_time <= local_time < server_time + CLOCK_TOLERANCE else server_time

    def perform(self, message: Message[Answer], token: str | None = None) -> Answer:
        """Send the message to the server and return its answer; raise a ``PopugError`` for any failure."""
        body = self.ask(message, token)
        declaration = DECLARATIONS[type(message)]
        try:
            answer: Answer = msgspec.json.decode(body, type=declaration.answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            is_command = declaration.is_command
            raise self._errors.malformed("it does not have the expected format", in_doubt=is_command) from error
        return answer

    def ask(self, message: Message[Any], token: str | None = None, *, key: str | None = None) -> bytes:
        """Send the message, and return its answer as JSON; raise as ``perform`` does.

        ``key`` is the idempotency key of a command; without one, the command gets a random key if it may have one.
        """
        declaration = DECLARATIONS[type(message)]
        assert declaration.access is not Access.OPERATOR, "the operator's messages never go over a server"
        seen = positions.text_of(self.positions.read())
        path = declaration.part_path if self._are_parts else declaration.path
        return self._answer(build_request(declaration, path, message, token, seen, key))

    def follow(self, message: "ListEvents", token: str | None = None) -> "Iterator[list[EnvelopeDocument]]":
        """Yield the events that match the message, then new ones as they are published (server-sent events).

        Reconnect after the stream ends or breaks. Raise an error if that fails repeatedly or the server reports one.
        """
        last_event_id, failures = "", 0
        while True:
            began, failure = monotonic(), Exception("the stream ended")
            try:
                for event_id, events in self._stream(stream_request(message, last_event_id, token)):
                    last_event_id, failures = event_id, 0
                    yield events
            except (ConnectionError, TimeoutError) as error:
                failure = error
            except (KeyError, TypeError, ValueError) as error:
                raise self._errors.malformed("the event stream contains other data") from error
            failures = 0 if monotonic() - began > PROBE_AFTER_SECONDS else failures + 1
            if failures >= len(RETRY_DELAYS_SECONDS):
                raise self._errors.disconnected(failure) from failure
            sleep(RETRY_DELAYS_SECONDS[failures])

    def check_readiness(self) -> None:
        """Raise an error if the server does not answer, or cannot perform messages now."""
        self._answer(HttpRequest("GET", "/readyz", header_fields(None)))

    def _fetch_server_info(self) -> None:
        """Send a minimal request; each response has header fields about the server, also if that is not ready."""
        self._answer(HttpRequest("GET", "/healthz", header_fields(None)))

    def _answer(self, request: HttpRequest) -> bytes:
        """Return the body of a successful response; raise the error that the server reports, or a client error."""
        self._is_sent = False
        try:
            head, body = self._exchange(request)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(STILL_RUNNING if request.is_command and self._is_sent else "") from interrupt
        if head.status == OK:
            return body
        raise error_from_problem(body) or self._errors.malformed(
            f"status {head.status} without a reason", in_doubt=request.is_command and not 400 <= head.status < 500
        )

    def _exchange(self, request: HttpRequest) -> tuple[Head, bytes]:
        """Send the request. After a broken connection retry it, if it is repeatable."""
        failure: Exception | None = None
        for delay_seconds in RETRY_DELAYS_SECONDS:
            sleep(delay_seconds)
            try:
                connection = self._open(request)
            except OSError as error:
                if failure is None:
                    raise self._errors.unreachable(error) from error
                failure = error
                continue
            try:
                return self._send_and_receive(connection, request)
            except TimeoutError as error:
                raise self._errors.timed_out(error, in_doubt=request.is_command) from error
            except OSError as error:
                failure = error
            finally:
                self._stop_waiting()
                self._keep_or_close(connection)
            if not request.is_repeatable:
                break
        assert failure is not None
        raise self._errors.disconnected(failure, in_doubt=request.is_command) from failure

    def _open(self, request: HttpRequest) -> ServerConnection:
        """Return the kept connection if it is usable, else a new one.

        A request that is not repeatable does not reuse a connection, because the server may be closing it.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection.is_new or (request.is_repeatable and connection.is_reusable()):
                return connection
            connection.close()
        return ServerConnection(self.address)

    def _keep_or_close(self, connection: ServerConnection) -> None:
        """Keep the connection for the next request if the whole response was read, else close it."""
        if connection.is_complete:
            self._connection = connection
        else:
            connection.close()

    def _send_and_receive(self, connection: ServerConnection, request: HttpRequest) -> tuple[Head, bytes]:
        """Send the request once, and return the response if it is one of a popug server of this release."""
        self._is_sent = True
        connection.send(request.method, request.target, request.fields, request.body)
        try:
            head = connection.read_head(self._idle_callback(request.timeout_seconds))
        except ProtocolError as error:
            raise self._errors.malformed(str(error)) from error
        self._check_version(head)
        try:
            body = connection.read_body(head)
        except ProtocolError as error:
            raise self._errors.malformed(str(error), in_doubt=request.is_command) from error
        self._read_response_headers(head)
        if _content_type(head) not in JSON_TYPES:
            raise self._errors.malformed("it does not have the expected format", in_doubt=request.is_command)
        return head, body

    def _check_version(self, head: Head) -> None:
        """Raise unless the response is from a popug server of this release.

        An error of a gateway counts as a broken connection (``ConnectionError``).
        """
        version = head.fields.get("popug-version", "")
        if not version and head.status in GATEWAY_ERROR_STATUSES:
            raise ConnectionError(f"a gateway answers {head.status}")
        if series_of(version) != series_of(__version__):
            raise self._errors.version_mismatch(head.status, head.fields.get("location", ""), version)

    def _read_response_headers(self, head: Head) -> None:
        self.time_zone = head.fields.get("popug-time-zone", self.time_zone)
        self.home_id = head.fields.get("popug-home-id", self.home_id)
        self.is_replayed = head.fields.get("idempotency-replayed") == "true"
        self._date_field, self._date_received_at = head.fields.get("date", ""), monotonic()
        if shown := positions.parse(head.fields.get("popug-position")):
            self.positions.keep(shown)
        try:
            warnings = msgspec.json.decode(head.fields.get("popug-warnings", "[]"), type=list[str])
        except msgspec.MsgspecError:
            warnings = []
        for warning in warnings:
            self.warn(warning)

    def _idle_callback(self, timeout_seconds: float) -> Callable[[], None]:
        """Return the function that is called while no data arrives.

        It reports progress, probes the server's health and raises ``TimeoutError`` after `timeout_seconds`.
        """
        began = probed_at = monotonic()

        def on_idle() -> None:
            nonlocal probed_at
            now = monotonic()
            self._is_waiting = True
            self._progress(WAITING, int(now - began), 0)
            if now - began > timeout_seconds:
                raise TimeoutError(f"no answer after {timeout_seconds:.0f} seconds")
            if now - probed_at > PROBE_AFTER_SECONDS:
                self._probe_health()
                probed_at = monotonic()

        return on_idle

    def _stop_waiting(self) -> None:
        """Report the end of the wait, if it was reported as progress."""
        if self._is_waiting:
            self._is_waiting = False
            self._progress(WAITING, 1, 1)

    def _probe_health(self) -> None:
        """Check over a separate connection that the server is alive; raise ``TimeoutError`` if it is not."""
        began = monotonic()

        def on_idle() -> None:
            if monotonic() - began > HEALTH_TIMEOUT_SECONDS:
                raise TimeoutError("its health check fails")

        try:
            connection = ServerConnection(self.address)
        except OSError as error:
            raise TimeoutError("its health check fails") from error
        try:
            connection.send("GET", "/healthz", header_fields(None))
            connection.read_head(on_idle)
        except (ConnectionError, ProtocolError) as error:
            raise TimeoutError("its health check fails") from error
        finally:
            connection.close()

    def _stream(self, request: HttpRequest) -> "Iterator[tuple[str, list[EnvelopeDocument]]]":
        """Yield the events of one stream until it ends: an id, and the events up to the one that has it.

        A server gives each event an id, and the gateway of a cluster the last one of several.
        """
        received_at = monotonic()

        def on_idle() -> None:
            if monotonic() - received_at > STREAM_TIMEOUT_SECONDS:
                raise TimeoutError("the event stream is silent")

        try:
            connection = ServerConnection(self.address)
        except OSError as error:
            raise ConnectionError(str(error)) from error
        try:
            connection.send(request.method, request.target, request.fields)
            head = connection.read_head(on_idle)
            self._check_version(head)
            if head.status != OK:
                raise error_from_problem(connection.read_body(head)) or self._errors.malformed(f"status {head.status}")
            if _content_type(head) != "text/event-stream":
                raise ProtocolError("it is not an event stream")
            self._read_response_headers(head)
            event_type, event_id, events = b"", "", []
            for line in connection.lines(head):
                received_at = monotonic()
                name, _, value = line.partition(b":")
                if name == b"id":
                    event_id = value.strip().decode("latin-1")
                elif name == b"event":
                    event_type = value.strip()
                elif name == b"data" and event_type == b"problem":
                    raise error_from_problem(value) or self._errors.malformed("the event stream ends without a reason")
                elif name == b"data":
                    events.append(msgspec.json.decode(value.strip(), type=dict[str, Any]))
                elif not line and events and event_id:
                    yield event_id, events
                    event_id, events = "", []
        except OSError as error:
            raise error if isinstance(error, TimeoutError) else ConnectionError(str(error)) from error
        finally:
            connection.close()


def _content_type(head: Head) -> str:
    return head.fields.get("content-type", "").partition(";")[0].strip().lower()
