"""Count and time the requests of a server for its metrics, if the package prometheus-client is installed."""

from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import NotFound
from popug_cli.server.http_errors import HttpError
from popug_cli.server.request_limits import AsgiApp, AsgiEvent, AsgiScope, Receive, Send
from popug_cli.server.served import Served

if TYPE_CHECKING:
    from popug_cli.server.metrics import Metrics

PACKAGE = "prometheus_client"
MESSAGE_PATHS = "/v1/"
ENDLESS_PATHS = frozenset({"/v1/events"})
NO_RESPONSE = "none"


def open_metrics(company: Served, version: str) -> "Metrics | None":
    """Return the metrics of a server, or None without the package prometheus-client."""
    try:
        from popug_cli.server.metrics import Metrics
    except ImportError as error:
        if (error.name or "").partition(".")[0] != PACKAGE:
            raise
        return None
    return Metrics(company if isinstance(company, ServedCompany) else None, version)


def not_installed() -> HttpError:
    """Return the error for a request for metrics to a server without the package."""
    error = NotFound(
        "metrics_not_installed",
        "This server has no metrics, because the package prometheus-client is not installed.",
        hint="Install popug with its extra: pip install 'popug[cluster]'. Then start the server again.",
    )
    return HttpError(404, error)


class RequestMeter:
    """ASGI middleware: counts the responses to all requests, and measures the durations of those with a message."""

    def __init__(self, app: AsgiApp, metrics: "Metrics", known_paths: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._messages = {
            path: path.rpartition("/")[2]
            for path in known_paths
            if path.startswith(MESSAGE_PATHS) and path not in ENDLESS_PATHS
        }

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, then record it."""
        status, start_seconds = NO_RESPONSE, monotonic()

        async def send_and_note(event: AsgiEvent) -> None:
            nonlocal status
            await send(event)
            status = str(event.get("status", status))

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._metrics.responses.labels(status).inc()
            if (message := self._messages.get(scope["path"])) is not None:
                self._metrics.durations.labels(message).observe(monotonic() - start_seconds)
