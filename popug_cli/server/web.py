"""The routes: one a message, made from its declaration, and what a server says of itself."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from popug_cli.app.resident import Performed, Resident
from popug_cli.kernel.errors import InvalidInput, OwnFault, PopugError
from popug_cli.messages.base import Access, Declaration, declarations
from popug_cli.messages.identity import ShowKeys
from popug_cli.server import problems, refusals
from popug_cli.server.gate import BODY, HEADERS
from popug_cli.server.refusals import Refused
from popug_cli.server.work import Workers

MAX_WARNING_BYTES = 8 * 1024
JSON = "application/json"
Web = Request[Any, Any, Any]


def routes(resident: Resident, workers: Workers) -> list[HTTPRouteHandler]:
    """A route for every message that goes over a network."""
    return [_route(each, resident, workers) for each in declarations() if each.access is not Access.OPERATOR]


def path_of(declaration: Declaration) -> str:
    """Where a message is sent to."""
    return f"/v1/{declaration.module}/{declaration.name}"


def build(resident: Resident, workers: Workers, report: Callable[[Exception], None]) -> Litestar:
    """The application; ``report`` hears of faults of its own."""

    def refuse(request: Web, error: Exception) -> Response[bytes]:
        return _refusal(_refused(error, request, report))

    return Litestar(
        route_handlers=[*routes(resident, workers), *_about(resident, workers)],
        openapi_config=None,
        exception_handlers={Exception: refuse, HTTPException: refuse},
        logging_config=None,
    )


def bearer(request: Web) -> str | None:
    """The token of a request; None where it has none."""
    kind, _, token = request.scope["state"][HEADERS].get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def idempotency_key(request: Web) -> str | None:
    """The key under which a command may be sent again; as a text of RFC 9651 its quotes are none of it."""
    key = request.scope["state"][HEADERS].get(b"idempotency-key")
    if key is None:
        return None
    found = str(key.decode("latin-1")).strip()
    return found[1:-1] if len(found) > 1 and found[0] == found[-1] == '"' else found


def answer_of(performed: Performed) -> Response[bytes]:
    """What was performed, as an answer."""
    headers = {"Popug-Warnings": _told(performed.warnings)} if performed.warnings else {}
    if performed.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return Response(msgspec.json.encode(performed.answer), status_code=200, media_type=JSON, headers=headers)


def _route(declaration: Declaration, resident: Resident, workers: Workers) -> HTTPRouteHandler:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: Web) -> Response[bytes]:
        message = _decode(decoder, request.scope["state"][BODY])
        token, key = bearer(request), idempotency_key(request)
        return await workers.run(declaration, lambda: answer_of(resident.perform(message, token, key=key)))

    perform.__name__ = declaration.name
    return post(path_of(declaration), status_code=200, media_type=JSON, name=declaration.name)(perform)


def _decode(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        hint = "GET /schema says what this message takes."
        raise InvalidInput("usage", f"The message is not valid: {error}.", hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        sentence = f"The body is no JSON: {error}."
        raise Refused(400, InvalidInput("usage", sentence, hint="Send one JSON object.")) from None


def _about(resident: Resident, workers: Workers) -> list[HTTPRouteHandler]:
    @get("/healthz", media_type=JSON)
    async def healthz() -> Response[bytes]:
        return Response(b'{"status":"ok"}', media_type=JSON)

    @get("/.well-known/jwks.json", media_type=JSON)
    async def jwks() -> Response[bytes]:
        performed = await workers.run(None, lambda: resident.perform(ShowKeys(), None))
        return Response(msgspec.json.encode(performed.answer), media_type="application/jwk-set+json")

    return [healthz, jwks]


def _refused(error: Exception, request: Web, report: Callable[[Exception], None]) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, PopugError):
        return Refused(problems.status_of(error), error)
    if isinstance(error, HTTPException) and error.status_code == 404:
        return refusals.no_such_route(request.url.path)
    if isinstance(error, HTTPException) and error.status_code == 405:
        return refusals.wrong_method(request.method, request.url.path)
    report(error)
    fault = OwnFault("internal", "popug failed by a fault of its own.", hint="Its server's log says more.")
    return Refused(500, fault)


def _refusal(refused: Refused) -> Response[bytes]:
    document = problems.problem_of(refused.error, refused.status)
    headers = problems.headers_of(refused.error, refused.status)
    return Response(
        problems.encode(document), status_code=refused.status, media_type=problems.MEDIA_TYPE, headers=headers
    )


def _told(warnings: list[str]) -> str:
    """The sentences as one header: ASCII, and as many as it can hold."""
    while len(told := json.dumps(warnings)) > MAX_WARNING_BYTES:
        warnings = warnings[:-1]
    return told
