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
from popug_cli.server.event_stream import Feed, Subscription
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.requests import JSON, MAX_INTEGER_DIGITS, WebRequest, bearer, header, invalid_message
from popug_cli.server.thread_pools import ThreadPools

KEY_SET = "application/jwk-set+json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
READ = (HttpMethod.GET, HttpMethod.HEAD)
NO_SCRIPTS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def routes(
    company: ServedCompany, pools: ThreadPools, ending: asyncio.Event, identity: ServerIdentity
) -> list[HTTPRouteHandler]:
    """Return the routes that do not belong to a message."""
    return [*_state(company, pools, ending, identity), _events(company, pools, ending), *_schema(identity)]


def _state(
    company: ServedCompany, pools: ThreadPools, ending: asyncio.Event, identity: ServerIdentity
) -> list[HTTPRouteHandler]:
    def ready() -> dict[str, str]:
        if ending.is_set():
            raise http_errors.shutting_down()
        company.probe()
        return {
            "status": "ready",
            "version": identity.version,
            "time_zone": identity.time_zone,
            "home_id": identity.home_id,
        }

    @route("/healthz", http_method=READ, media_type=JSON)
    async def healthz() -> Response[bytes]:
        return Response(b'{"status":"ok"}', media_type=JSON)

    @route("/readyz", http_method=READ, media_type=JSON)
    async def readyz() -> Response[bytes]:
        try:
            return Response(msgspec.json.encode(await pools.run(None, ready)), media_type=JSON)
        except PopugError as error:
            raise http_errors.not_ready(error) from error

    @route("/.well-known/jwks.json", http_method=READ, media_type=KEY_SET)
    async def jwks() -> Response[bytes]:
        performed = await pools.run(None, lambda: company.perform(ShowKeys(), None))
        return Response(msgspec.json.encode(performed.answer), media_type=KEY_SET)

    return [healthz, readyz, jwks]


def _events(company: ServedCompany, pools: ThreadPools, ending: asyncio.Event) -> HTTPRouteHandler:
    feed = Feed(company, pools, ending)

    @get("/v1/events", media_type=EVENT_STREAM)
    async def events(request: WebRequest) -> Stream:
        subscription = Subscription(bearer(request), _event_query(request))
        first = await feed.first_page(subscription)
        return Stream(feed.stream(subscription, first), media_type=EVENT_STREAM)

    return events


def _event_query(request: WebRequest) -> ListEvents:
    parameters: dict[str, Any] = dict(request.query_params)
    if last := header(request, b"last-event-id"):
        parameters["after"] = last
    try:
        query = msgspec.convert(parameters | {"limit": 100}, ListEvents, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    if query.after > MAX_INTEGER_DIGITS:
        raise invalid_message("a number in it is too large")
    return query


def _schema(identity: ServerIdentity) -> list[HTTPRouteHandler]:
    document = openapi.document(identity.version)
    encoded, page_html = msgspec.json.encode(document), page.shown(document).encode()

    @route("/schema/openapi.json", http_method=READ, media_type=JSON)
    async def openapi_json() -> Response[bytes]:
        return Response(encoded, media_type="application/vnd.oai.openapi+json")

    @route("/schema", http_method=READ, media_type=HTML)
    async def schema() -> Response[bytes]:
        return Response(page_html, media_type=HTML, headers=NO_SCRIPTS)

    return [openapi_json, schema]
