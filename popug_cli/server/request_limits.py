"""Checks of each request (size, time, host, origin, release, media type), and the headers of every response."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.version import series_of
from popug_cli.messages import problem
from popug_cli.messages.base import MAX_MESSAGE_BYTES
from popug_cli.server import http_errors
from popug_cli.server.http_errors import HttpError
from popug_cli.server.peers import PEER_KEY, UNKNOWN_PEER, Peer

AsgiScope = MutableMapping[str, Any]
AsgiEvent = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiEvent]]
Send = Callable[[AsgiEvent], Awaitable[None]]
AsgiApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]
VerifyToken = Callable[[str | None], Awaitable[None]]

MAX_HEADER_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024
PUBLIC_BODY_BYTES = 16 * 1024
SMALL_BODY_BYTES = 1024 * 1024
MAX_LARGE_BODIES = 2
MAX_SMALL_BODIES = 32  # of more than PUBLIC_BODY_BYTES
MAX_PEER_SMALL_BODIES = 16
BODY_TIMEOUT_SECONDS = 30.0
SEND_TIMEOUT_SECONDS = 60.0
HEADERS = "headers"
BODY = "body"
SINGLE_VALUE_HEADERS = frozenset(
    (b"authorization", b"idempotency-key", b"content-type", b"popug-version", b"last-event-id", b"origin")
)

CROSS_SITE = (b"cross-site", b"same-site")


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's description in every response. `hosts` has the host names that requests may use; if empty, any."""

    version: str
    home_id: str
    time_zone: str
    hosts: frozenset[str] = frozenset()

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of every response."""
        return [
            ("popug-version", self.version),
            ("popug-home-id", self.home_id),
            ("popug-time-zone", self.time_zone),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ]


class RequestGuard:
    """ASGI middleware: validates each request, reads its body, and limits the time to send each part of the response.

    On `token_paths` the token's signature is verified before the body is read. Other paths accept bodies of at most
    ``PUBLIC_BODY_BYTES``, and only `large_body_paths` those over ``SMALL_BODY_BYTES``. The number of bodies over
    either size is limited, so that unfinished bodies take little memory.
    """

    def __init__(
        self,
        app: AsgiApp,
        server_identity: ServerIdentity,
        verify_signature: VerifyToken,
        verify_token: VerifyToken,
        *,
        token_paths: frozenset[str],
        large_body_paths: frozenset[str],
    ) -> None:
        self._app = app
        self._server_identity = server_identity
        self._verify_signature = verify_signature
        self._verify_token = verify_token
        self._token_paths = token_paths
        self._large_body_paths = large_body_paths
        self._large_body_slots = asyncio.Semaphore(MAX_LARGE_BODIES)
        self._small_body_slots = asyncio.Semaphore(MAX_SMALL_BODIES)
        self._peer_slots: WeakValueDictionary[Peer, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Validate one request, then pass it to the application or answer with an error."""
        assert scope["type"] == "http"

        is_answered = False

        async def answer(event: AsgiEvent) -> None:
            nonlocal is_answered
            is_answered = True
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await send(event)

        async with AsyncExitStack() as stack:
            try:
                await self._validate(scope, receive, stack)
            except (PopugError, HttpError) as error:
                await send_error(answer, error)
                return
            except ConnectionResetError:
                return
            try:
                await self._app(scope, receive, answer)
            except asyncio.CancelledError:  # the server shuts down and the grace period is over
                if not is_answered:
                    await send_error(answer, HttpError(503, http_errors.shutdown_in_doubt(), closes_connection=True))

    async def _validate(self, scope: AsgiScope, receive: Receive, stack: AsyncExitStack) -> None:
        """Check the headers, read the body, and put both into the state of `scope`; raise the error to answer."""
        headers = dict(scope["headers"])
        self._check_size(scope, headers)
        self._check_headers(scope, headers)
        body = await self._read_body(scope, headers, receive, stack) if scope["method"] == "POST" else b""
        scope["state"] |= {HEADERS: headers, BODY: body}

    async def _read_body(
        self, scope: AsgiScope, headers: dict[bytes, bytes], receive: Receive, stack: AsyncExitStack
    ) -> bytes:
        """Read the body.

        Over ``PUBLIC_BODY_BYTES``, require a valid token and slots; over ``SMALL_BODY_BYTES``, one more slot.
        """
        path, peer = scope["path"], scope["state"].get(PEER_KEY, UNKNOWN_PEER)
        limit = self._body_limit(path)
        length = headers.get(b"content-length", b"0")
        if len(length) > len(str(limit)) or int(length) > limit:
            raise http_errors.too_large(limit)
        if path in self._token_paths:
            await self._verify_signature(bearer(headers))
        parts: list[bytes] = []
        is_complete = await _read_parts(receive, parts, PUBLIC_BODY_BYTES)
        if limit > PUBLIC_BODY_BYTES and _size(parts) > PUBLIC_BODY_BYTES:
            await self._verify_token(bearer(headers))
            await _acquire_slots(stack, self._slots_of(peer), self._small_body_slots)
            is_complete = is_complete or await _read_parts(receive, parts, min(limit, SMALL_BODY_BYTES))
        if limit > SMALL_BODY_BYTES and _size(parts) > SMALL_BODY_BYTES:
            await _acquire_slots(stack, self._large_body_slots)
            is_complete = is_complete or await _read_parts(receive, parts, limit)
        if not is_complete or _size(parts) > limit:
            raise http_errors.too_large(limit)
        return b"".join(parts)

    def _body_limit(self, path: str) -> int:
        if path in self._large_body_paths:
            return MAX_MESSAGE_BYTES
        return SMALL_BODY_BYTES if path in self._token_paths else PUBLIC_BODY_BYTES

    def _slots_of(self, peer: Peer) -> asyncio.Semaphore:
        """Return the slots of a peer. They exist only while a request uses them."""
        slots = self._peer_slots.get(peer)
        if slots is None:
            slots = self._peer_slots[peer] = asyncio.Semaphore(MAX_PEER_SMALL_BODIES)
        return slots

    def _check_size(self, scope: AsgiScope, headers: dict[bytes, bytes]) -> None:
        """Reject two body lengths, oversized headers, long targets, and duplicates of single-value headers.

        The check of the body lengths comes first, because only its error closes the connection.
        """
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise http_errors.two_lengths()
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise http_errors.headers_too_large(MAX_HEADER_BYTES)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
            raise http_errors.target_too_long(MAX_TARGET_BYTES)
        if len(headers) < len(scope["headers"]):
            for name, count in Counter(name for name, _ in scope["headers"]).items():
                if count > 1 and name in SINGLE_VALUE_HEADERS:
                    raise http_errors.duplicate_header(name.decode().title())

    def _check_headers(self, scope: AsgiScope, headers: dict[bytes, bytes]) -> None:
        """Reject unknown hosts, other origins, clients of another release, and a POST that is not declared as JSON."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self._server_identity.hosts and scope["client"] and _host_name(host) not in self._server_identity.hosts:
            raise http_errors.unknown_host(host)
        origin = headers.get(b"origin")
        if (origin is not None and _authority(origin) != host) or headers.get(b"sec-fetch-site") in CROSS_SITE:
            raise http_errors.cross_origin()
        client_version = headers.get(b"popug-version")
        if client_version is not None and series_of(client_version.decode("latin-1")) != series_of(
            self._server_identity.version
        ):
            raise http_errors.other_version(client_version.decode("latin-1"), self._server_identity.version)
        if scope["method"] == "POST" and not _is_json(headers):
            raise http_errors.not_json()


async def send_error(send: Send, error: PopugError | HttpError) -> None:
    """Send a problem document as the response."""
    rejection = error if isinstance(error, HttpError) else HttpError(http_errors.status_of(error), error)
    body = http_errors.encode(http_errors.problem_of(rejection.error, rejection.status))
    required_headers = http_errors.headers_of(rejection.error, rejection.status)
    headers = [
        (b"content-type", problem.MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in (required_headers | rejection.headers).items()),
        *([(b"connection", b"close")] if rejection.closes_connection else []),
    ]
    await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _acquire_slots(stack: AsyncExitStack, *slots: asyncio.Semaphore) -> None:
    """Wait for a slot of each kind for a body; `stack` releases them after the response."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            for slot in slots:
                await stack.enter_async_context(slot)
    except TimeoutError:
        raise http_errors.busy() from None


async def _read_parts(receive: Receive, parts: list[bytes], limit_bytes: int) -> bool:
    """Append to `parts` until the body ends or exceeds the limit; return whether it has ended.

    Raise ``HttpError`` if it takes too long, ``ConnectionResetError`` if the client disconnects.
    """
    size = _size(parts)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            while size <= limit_bytes:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ConnectionResetError
                parts.append(event.get("body", b""))
                size += len(parts[-1])
                if not event.get("more_body", False):
                    return True
    except TimeoutError:
        raise http_errors.too_slow() from None
    return False


def _size(parts: list[bytes]) -> int:
    return sum(map(len, parts))


def bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the bearer token of a request, or None."""
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type == b"application/json" and headers.get(b"content-encoding", b"identity").lower() == b"identity"


def _host_name(host: str) -> str:
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _authority(origin: bytes) -> str:
    return origin.decode("latin-1").partition("://")[2]
