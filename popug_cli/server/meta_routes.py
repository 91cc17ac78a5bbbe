"""The routes about the server itself: health, readiness, public keys, event stream, API schema."""

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import ShowKeys
from popug_cli.server import http_errors, openapi
from popug_cli.server.application import Response, Route, WebRequest
from popug_cli.server.event_stream import PAGE_EVENTS, Feed, Subscription
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.request_meter import not_installed
from popug_cli.server.requests import JSON, MAX_INTEGER, invalid_message
from popug_cli.server.served import Served
from popug_cli.server.thread_pools import ThreadPools

if TYPE_CHECKING:
    from popug_cli.server.metrics import Metrics

EVENT_STREAM = f"{openapi.EVENT_STREAM}; charset=utf-8"
HTML = "text/html; charset=utf-8"
UNBUFFERED = {"X-Accel-Buffering": "no"}  # nginx would keep events until its buffer is full
NO_SCRIPT_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def routes(
    company: Served,
    pools: ThreadPools,
    shutdown_requested: asyncio.Event,
    server_identity: ServerIdentity,
    metrics: "Metrics | None",
) -> list[Route]:
    """Return the routes that do not belong to a message."""
    return [
        *_health_and_key_routes(company, pools, shutdown_requested, server_identity),
        _metrics_route(pools, metrics),
        _event_stream_route(company, pools, shutdown_requested),
        *_schema_routes(server_identity),
    ]


def _health_and_key_routes(
    company: Served, pools: ThreadPools, shutdown_requested: asyncio.Event, server_identity: ServerIdentity
) -> list[Route]:
    def check_readiness() -> dict[str, Any]:
        if shutdown_requested.is_set():
            raise http_errors.shutting_down()
        found = company.probe()
        return {
            "status": "ready",
            "version": server_identity.version,
            "time_zone": server_identity.time_zone,
            "home_id": server_identity.home_id,
            **found,
        }

    async def healthz(_: WebRequest) -> Response:
        return Response(b'{"status":"ok"}', JSON)

    async def readyz(_: WebRequest) -> Response:
        try:
            return Response(msgspec.json.encode(await pools.run(None, check_readiness)), JSON)
        except PopugError as error:
            raise http_errors.not_ready(error) from error

    async def jwks(_: WebRequest) -> Response:
        result = await pools.run(None, lambda: company.perform(ShowKeys(), None))
        return Response(msgspec.json.encode(result.answer), openapi.JWK_SET_JSON)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/.well-known/jwks.json", jwks)]


def _metrics_route(pools: ThreadPools, metrics: "Metrics | None") -> Route:
    async def answer(request: WebRequest) -> Response:
        if metrics is None:
            raise not_installed()
        accepted = request.header(b"accept") or ""
        content, media_type = await pools.run(None, lambda: metrics.render(accepted))
        return Response(content, media_type)

    return Route("/metrics", answer)


def _event_stream_route(company: Served, pools: ThreadPools, shutdown_requested: asyncio.Event) -> Route:
    feed = Feed(company, pools, shutdown_requested)

    async def events(request: WebRequest) -> Response:
        subscription = Subscription(request.bearer, _decode_event_query(request))
        first_page = await feed.first_page(subscription)
        return Response(feed.stream(subscription, first_page), EVENT_STREAM, headers=UNBUFFERED)

    return Route("/v1/events", events, methods=("GET",))


def _decode_event_query(request: WebRequest) -> ListEvents:
    """Decode the query parameters; ``Last-Event-ID`` takes precedence over ``after`` and ``cursor``. Raise ``usage``.

    The id of an event is its position in the log, or the cursor of a cluster.
    """
    parameters = dict(request.query)
    if last_event_id := request.header(b"last-event-id"):
        parameters["cursor" if "=" in last_event_id else "after"] = last_event_id
    try:
        query = msgspec.convert(parameters | {"limit": PAGE_EVENTS}, ListEvents, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    if query.after > MAX_INTEGER:
        raise invalid_message("a number in it is too large")
    return query


def _schema_routes(server_identity: ServerIdentity) -> list[Route]:
    document = openapi.document(server_identity.version)
    encoded = msgspec.json.encode(document)
    render = cache(lambda: render_page(document))

    async def openapi_json(_: WebRequest) -> Response:
        return Response(encoded, openapi.OPENAPI_JSON)

    async def schema(_: WebRequest) -> Response:
        return Response(render(), HTML, headers=NO_SCRIPT_HEADERS)

    return [Route("/schema/openapi.json", openapi_json), Route("/schema", schema)]


def render_page(document: openapi.OpenApiDocument) -> bytes:
    """Render the OpenAPI document as an HTML page without scripts."""
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).with_name("pages"))
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template("schema.html").render(document).encode()
