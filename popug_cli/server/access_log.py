"""The access log: one record a request, if ``log.access`` is set."""

from collections.abc import Collection
from time import monotonic

from popug_cli.kernel.log import ACCESS_LOG
from popug_cli.server.request_limits import AsgiApp, AsgiEvent, AsgiScope, Receive, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "(unknown)"
LOCAL_CLIENT = "unix"


class AccessLog:
    """ASGI middleware: logs each request at the end of its response: client, method, path, status, size and duration.

    It leaves out the query, headers, body, and a path that is not in `known_paths`, because a client may write a token
    or an invitation code there.
    """

    def __init__(self, app: AsgiApp, known_paths: Collection[str]) -> None:
        self._app = app
        self._known_paths = frozenset(known_paths)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, then log it. A status of 0 means that the client has not received a response."""
        status, size_bytes, start_seconds = 0, 0, monotonic()

        async def send_and_count(event: AsgiEvent) -> None:
            nonlocal status, size_bytes
            await send(event)
            status = event.get("status", status)
            size_bytes += len(event.get("body", b""))

        try:
            await self._app(scope, receive, send_and_count)
        finally:
            self._log(scope, status, size_bytes, monotonic() - start_seconds)

    def _log(self, scope: AsgiScope, status: int, size_bytes: int, duration_seconds: float) -> None:
        client = scope["client"][0] if scope["client"] else LOCAL_CLIENT
        method = scope["method"] if scope["method"] in METHODS else UNKNOWN
        path = scope["path"] if scope["path"] in self._known_paths else UNKNOWN
        ACCESS_LOG.info(
            "%s %s %s %d, %d bytes, %.3f s",
            *(client, method, path, status, size_bytes, duration_seconds),
            extra={
                "client": client,
                "method": method,
                "path": path,
                "status": status,
                "size_bytes": size_bytes,
                "duration_seconds": round(duration_seconds, 6),
            },
        )
