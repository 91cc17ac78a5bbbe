"""The routes about the server itself: health, readiness, public keys, event stream, API schema."""

import asyncio
from typing import Any

import msgspec
from litestar import HttpMethod, Response, get, route
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import ShowKeys
from popug_cli.server import http_errors, openapi, page
from popug_cli.server.event_stream import PAGE_EVENTS, Feed, Subscription
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.requests import JSON, MAX_INTEGER, WebRequest, bearer, header, invalid_message
from popug_cli.server.thread_pools import ThreadPools

JWK_SET_JSON = "application/jwk-set+json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
READ_METHODS = (HttpMethod.GET, HttpMethod.HEAD)
NO_SCRIPT_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def routes(
    company: ServedCompany, pools: ThreadPools, shutdown_requested: asyncio.Event, server_identity: ServerIdentity
) -> list[HTTPRouteHandler]:
    """Return the routes that do not belong to a message."""
    return [
        *_health_and_key_routes(company, pools, shutdown_requested, server_identity),
        _event_stream_route(company, pools, shutdown_requested),
        *_schema_routes(server_identity),
    ]


def _health_and_key_routes(
    company: ServedCompany, pools: ThreadPools, shutdown_requested: asyncio.Event, server_identity: ServerIdentity
) -> list[HTTPRouteHandler]:
    def check_readiness() -> dict[str, str]:
        if shutdown_requested.is_set():
            raise http_errors.shutting_down()
        company.probe()
        return {
            "status": "ready",
            "version": server_identity.version,
            "time_zone": server_identity.time_zone,
            "home_id": server_identity.home_id,
        }

    @route("/healthz", http_method=READ_METHODS, media_type=JSON)
    async def healthz() -> Response[bytes]:
        return Response(b'{"status":"ok"}', media_type=JSON)

    @route("/readyz", http_method=READ_METHODS, media_type=JSON)
    async def readyz() -> Response[bytes]:
        try:
            return Response(msgspec.json.encode(await pools.run(None, check_readiness)), media_type=JSON)
        except PopugError as error:
            raise http_errors.not_ready(error) from error

    @route("/.well-known/jwks.json", http_method=READ_METHODS, media_type=JWK_SET_JSON)
    async def jwks() -> Response[bytes]:
        result = await pools.run(None, lambda: company.perform(ShowKeys(), None))
        return Response(msgspec.json.encode(result.answer), media_type=JWK_SET_JSON)

    return [healthz, readyz, jwks]


def _event_stream_route(
    company: ServedCompany, pools: ThreadPools, shutdown_requested: asyncio.Event
) -> HTTPRouteHandler:
    feed = Feed(company, pools, shutdown_requested)

    @get("/v1/events", media_type=EVENT_STREAM)
    async def events(request: WebRequest) -> Stream:
        subscription = Subscription(bearer(request), _decode_event_query(request))
        first_page = await feed.first_page(subscription)
        return Stream(feed.stream(subscription, first_page), media_type=EVENT_STREAM)

    return events


def _decode_event_query(request: WebRequest) -> ListEvents:
    """Decode the query parameters; ``Last-Event-ID`` takes precedence over ``after``. Raise ``usage``."""
    parameters: dict[str, Any] = dict(request.query_params)
    if last_event_id := header(request, b"last-event-id"):
        parameters["after"] = last_event_id
    try:
        query = msgspec.convert(parameters | {"limit": PAGE_EVENTS}, ListEvents, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    if query.after > MAX_INTEGER:
        raise invalid_message("a number in it is too large")
    return query


def _schema_routes(server_identity: ServerIdentity) -> list[HTTPRouteHandler]:
    document = openapi.document(server_identity.version)
    encoded, page_html = msgspec.json.encode(document), page.render(document).encode()

    @route("/schema/openapi.json", http_method=READ_METHODS, media_type=JSON)
    async def openapi_json() -> Response[bytes]:
        return Response(encoded, media_type="application/vnd.oai.openapi+json")

    @route("/schema", http_method=READ_METHODS, media_type=HTML)
    async def schema() -> Response[bytes]:
        return Response(page_html, media_type=HTML, headers=NO_SCRIPT_HEADERS)

    return [openapi_json, schema]
