"""The routes: one a message, made from its declaration, and what a server says of itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from popug_cli.app.resident import Resident
from popug_cli.kernel.errors import OwnFault, PopugError
from popug_cli.messages.base import Declaration
from popug_cli.server import about, problems, refusals
from popug_cli.server.gate import Identity
from popug_cli.server.refusals import Refused
from popug_cli.server.requests import (
    JSON,
    Web,
    answer_of,
    bearer,
    idempotency_key,
    invalid_message,
    is_bulk,
    message_of,
    path_of,
    served,
)
from popug_cli.server.work import Workers

NOT_FOUND, WRONG_METHOD = 404, 405
Report = Callable[[Exception], None]


def build(resident: Resident, workers: Workers, ending: asyncio.Event, identity: Identity, report: Report) -> Litestar:
    """The application, until it is ``ending``; ``report`` hears of faults of its own."""

    def refuse(request: Web, error: Exception) -> Response[bytes]:
        return _refusal(_refused(error, request, report))

    return Litestar(
        route_handlers=[
            *(_route(each, resident, workers) for each in served()),
            *about.routes(resident, workers, ending, identity),
        ],
        openapi_config=None,
        exception_handlers={Exception: refuse, HTTPException: refuse},
        logging_config=None,
    )


def large_paths() -> frozenset[str]:
    """Where a message may be as large as a file that somebody imports."""
    return frozenset(path_of(each) for each in served() if is_bulk(each))


def _route(declaration: Declaration, resident: Resident, workers: Workers) -> HTTPRouteHandler:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: Web) -> Response[bytes]:
        token, key = bearer(request), idempotency_key(request)

        def work() -> Response[bytes]:
            message = message_of(decoder, request)
            try:
                return answer_of(resident.perform(message, token, key=key))
            except OverflowError:
                raise invalid_message("a number in it is too large") from None

        return await workers.run(declaration, work)

    perform.__name__ = declaration.name
    return post(path_of(declaration), status_code=200, media_type=JSON, name=declaration.name)(perform)


def _refused(error: Exception, request: Web, report: Report) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, PopugError):
        if error.exit_status in {1, 7}:
            report(error)
        return Refused(problems.status_of(error), error)
    if isinstance(error, HTTPException) and error.status_code == NOT_FOUND:
        return refusals.no_such_route(request.scope["path"])
    if isinstance(error, HTTPException) and error.status_code == WRONG_METHOD:
        allowed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow", "POST")
        return refusals.wrong_method(request.method, request.scope["path"], allowed)
    report(error)
    fault = OwnFault("internal", "popug failed by a fault of its own.", hint="Its server's log says more.")
    return Refused(500, fault)


def _refusal(refused: Refused) -> Response[bytes]:
    document = problems.problem_of(refused.error, refused.status)
    return Response(
        problems.encode(document),
        status_code=refused.status,
        media_type=problems.MEDIA_TYPE,
        headers=problems.headers_of(refused.error, refused.status) | refused.headers,
    )
