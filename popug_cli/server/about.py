"""What a server says of itself: that it lives, that it can work, its public keys, its events, its schema."""

import asyncio
from typing import Any

import msgspec
from litestar import HttpMethod, Response, get, route
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from popug_cli.app.resident import Resident
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import ShowKeys
from popug_cli.server import openapi, page, refusals
from popug_cli.server.feed import Feed, Listening
from popug_cli.server.gate import Identity
from popug_cli.server.requests import JSON, LONGEST_INTEGER, Web, bearer, header, invalid_message
from popug_cli.server.work import Workers

KEY_SET = "application/jwk-set+json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
READ = (HttpMethod.GET, HttpMethod.HEAD)
NO_SCRIPTS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def routes(resident: Resident, workers: Workers, ending: asyncio.Event, identity: Identity) -> list[HTTPRouteHandler]:
    """The routes that are no messages."""
    return [*_state(resident, workers, ending, identity), _events(resident, workers, ending), *_schema(identity)]


def _state(resident: Resident, workers: Workers, ending: asyncio.Event, identity: Identity) -> list[HTTPRouteHandler]:
    def ready() -> dict[str, str]:
        if ending.is_set():
            raise refusals.ending()
        resident.probe()
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
            return Response(msgspec.json.encode(await workers.run(None, ready)), media_type=JSON)
        except PopugError as error:
            raise refusals.not_ready(error) from error

    @route("/.well-known/jwks.json", http_method=READ, media_type=KEY_SET)
    async def jwks() -> Response[bytes]:
        performed = await workers.run(None, lambda: resident.perform(ShowKeys(), None))
        return Response(msgspec.json.encode(performed.answer), media_type=KEY_SET)

    return [healthz, readyz, jwks]


def _events(resident: Resident, workers: Workers, ending: asyncio.Event) -> HTTPRouteHandler:
    feed = Feed(resident, workers, ending)

    @get("/v1/events", media_type=EVENT_STREAM)
    async def events(request: Web) -> Stream:
        listening = Listening(bearer(request), _asked(request))
        first = await feed.first_page(listening)
        return Stream(feed.stream(listening, first), media_type=EVENT_STREAM)

    return events


def _asked(request: Web) -> ListEvents:
    asked: dict[str, Any] = dict(request.query_params)
    if last := header(request, b"last-event-id"):
        asked["after"] = last
    try:
        found = msgspec.convert(asked | {"limit": 100}, ListEvents, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    if found.after > LONGEST_INTEGER:
        raise invalid_message("a number in it is too large")
    return found


def _schema(identity: Identity) -> list[HTTPRouteHandler]:
    document = openapi.document(identity.version)
    encoded, shown = msgspec.json.encode(document), page.shown(document).encode()

    @route("/schema/openapi.json", http_method=READ, media_type=JSON)
    async def openapi_json() -> Response[bytes]:
        return Response(encoded, media_type="application/vnd.oai.openapi+json")

    @route("/schema", http_method=READ, media_type=HTML)
    async def schema() -> Response[bytes]:
        return Response(shown, media_type=HTML, headers=NO_SCRIPTS)

    return [openapi_json, schema]
