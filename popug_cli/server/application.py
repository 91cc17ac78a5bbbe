"""The ASGI application (https://asgi.readthedocs.io): call the handler of a request's route, and send its response."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from popug_cli.server import http_errors, request_limits
from popug_cli.server.http_errors import HttpError
from popug_cli.server.request_limits import BODY, HEADERS, AsgiScope, Receive, Send

READ_METHODS = ("GET", "HEAD")
NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request that ``RequestGuard`` has accepted."""

    scope: AsgiScope

    @property
    def bearer(self) -> str | None:
        """The bearer token, or None."""
        return request_limits.bearer(self.scope["state"][HEADERS])

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query; the first value if a name is repeated."""
        return dict(reversed(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)))

    def take_body(self) -> bytes:
        """Return the body and release it, so that a large one and the message decoded from it do not coexist."""
        body: bytes = self.scope["state"].pop(BODY)
        return body

    def header(self, name: bytes) -> str | None:
        """Return a header, or None."""
        value: bytes | None = self.scope["state"][HEADERS].get(name)
        return None if value is None else value.decode("latin-1").strip()


@dataclass(frozen=True, slots=True)
class Response:
    """A response. The content of a stream is sent part by part, until the client disconnects."""

    content: bytes | AsyncGenerator[bytes]
    media_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its methods and the function that answers them. uvicorn omits the body of a response to HEAD."""

    path: str
    answer: Callable[[WebRequest], Awaitable[Response]]
    methods: tuple[str, ...] = READ_METHODS


class Application:
    """Answers the requests to `routes`. `convert_error` returns the error response for an exception of a handler."""

    def __init__(self, routes: Iterable[Route], convert_error: Callable[[Exception], HttpError]) -> None:
        self._routes = {route.path: route for route in routes}
        self._convert_error = convert_error

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all routes."""
        return frozenset(self._routes)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._respond(scope)
        except Exception as error:
            await request_limits.send_error(send, self._convert_error(error))
        else:
            await _send(response, receive, send)

    async def _respond(self, scope: AsgiScope) -> Response:
        """Call the handler of the route, or answer OPTIONS; raise ``route_not_found``, or ``usage`` with 405."""
        path, method = scope["path"], scope["method"]
        route = self._routes.get("/" + "/".join(filter(None, path.split("/"))))
        if route is None:
            raise http_errors.no_such_route(path)
        allowed = ", ".join(sorted((*route.methods, "OPTIONS")))
        if method == "OPTIONS":
            return Response(b"", "text/plain; charset=utf-8", NO_CONTENT, {"Allow": allowed})
        if method not in route.methods:
            raise http_errors.wrong_method(method, path, allowed)
        return await route.answer(WebRequest(scope))


async def _send(response: Response, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", response.media_type.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
    content = response.content
    if isinstance(content, bytes) and response.status != NO_CONTENT:
        headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(content, bytes):
        await send({"type": "http.response.body", "body": content})
    else:
        await _send_stream(content, receive, send)


async def _send_stream(content: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send the parts until they end or the client disconnects; raise the error of either."""

    async def send_parts() -> None:
        async with aclosing(content):
            async for part in content:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(send_parts()), asyncio.create_task(wait_for_disconnect())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
