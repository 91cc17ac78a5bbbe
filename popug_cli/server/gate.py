"""What one request may do: how large and slow it may be, where it may come from; and what every answer says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from popug_cli.kernel.errors import PopugError
from popug_cli.server import problems, refusals
from popug_cli.server.refusals import Refused

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Prove = Callable[[str | None], Awaitable[None]]

SMALL_BODY_BYTES = 1024 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
LARGE_BODIES = 4
BODY_SECONDS = 30.0
SEND_SECONDS = 60.0
HEADERS = "headers"
BODY = "body"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says of itself in every answer; ``hosts`` are its names, none where any will do."""

    version: str
    home_id: str
    time_zone: str
    hosts: frozenset[str] = frozenset()

    def headers(self) -> list[tuple[str, str]]:
        """The headers of every answer."""
        return [
            ("popug-version", self.version),
            ("popug-home-id", self.home_id),
            ("popug-time-zone", self.time_zone),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ]


class Gate:
    """The application inside, behind what is checked of each request."""

    def __init__(self, inside: App, identity: Identity, prove: Prove) -> None:
        self._inside = inside
        self._identity = identity
        self._prove = prove
        self._large = asyncio.Semaphore(LARGE_BODIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http"

        is_answered = False

        async def answer(event: Event) -> None:
            nonlocal is_answered
            is_answered = True
            async with asyncio.timeout(SEND_SECONDS):
                await send(event)

        headers = dict(scope["headers"])
        try:
            self._check(scope, headers)
            body = await self._body(headers, receive) if scope["method"] == "POST" else b""
        except PopugError as error:
            await refuse(answer, error, problems.status_of(error), closes=True)
            return
        except Refused as refused:
            await refuse(answer, refused.error, refused.status, closes=refused.closes)
            return
        except ConnectionResetError:
            return
        scope["state"] |= {HEADERS: headers, BODY: body}
        try:
            await self._inside(scope, receive, answer)
        except asyncio.CancelledError:  # by the end of the server's patience with what was begun
            if not is_answered:
                await refuse(answer, refusals.left_at_the_end(), 503, closes=True)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body; a large one only of who has a token, and not many at a time."""
        length = headers.get(b"content-length", b"0")
        if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            raise refusals.too_large(MAX_BODY_BYTES)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body, is_whole = await _read(receive, SMALL_BODY_BYTES)
                if len(body) > SMALL_BODY_BYTES:
                    await self._prove(bearer(headers))
                if not is_whole:
                    async with self._large:
                        rest, is_whole = await _read(receive, MAX_BODY_BYTES - len(body))
                    body += rest
        except TimeoutError:
            raise refusals.too_slow(BODY_SECONDS) from None
        if not is_whole or len(body) > MAX_BODY_BYTES:
            raise refusals.too_large(MAX_BODY_BYTES)
        return body

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._identity.hosts and scope["client"] and _name(host) not in self._identity.hosts:
            raise refusals.foreign_host(host)
        origin = headers.get(b"origin")
        if (origin is not None and _authority(origin) != host) or headers.get(b"sec-fetch-site") in FOREIGN:
            raise refusals.foreign_page()
        theirs = headers.get(b"popug-version")
        if theirs is not None and _series(theirs.decode("latin-1")) != _series(self._identity.version):
            raise refusals.other_version(theirs.decode("latin-1"), self._identity.version)
        if scope["method"] == "POST" and not _is_json(headers.get(b"content-type", b"")):
            raise refusals.not_json()


FOREIGN = (b"cross-site", b"same-site")


async def refuse(send: Send, error: PopugError, status: int, *, closes: bool = False) -> None:
    """Answer with a problem document."""
    body = problems.encode(problems.problem_of(error, status))
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problems.headers_of(error, status).items()),
        *([(b"connection", b"close")] if closes else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive, limit_bytes: int) -> tuple[bytes, bool]:
    """What comes of a body until it ends, or is over the limit, and whether it has ended.

    Raises ``ConnectionResetError`` where nobody is left.
    """
    parts: list[bytes] = []
    size = 0
    while size <= limit_bytes:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if not event.get("more_body", False):
            return b"".join(parts), True
    return b"".join(parts), False


def bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """The token of a request; None where it has none."""
    kind, _, token = headers.get(b"authorization", b"").decode("latin-1").strip().partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


def _series(version: str) -> list[str]:
    return version.split(".")[:2]


def _name(host: str) -> str:
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _authority(origin: bytes) -> str:
    return origin.decode("latin-1").partition("://")[2]
