"""The routes: one per message, created from its declaration, and the routes about the server."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import InternalError, PopugError
from popug_cli.messages import problem
from popug_cli.messages.base import Declaration
from popug_cli.server import http_errors, meta_routes
from popug_cli.server.http_errors import HttpError
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.requests import (
    JSON,
    WebRequest,
    answer_of,
    bearer,
    has_large_body,
    idempotency_key,
    invalid_message,
    message_of,
    path_of,
    public_messages,
)
from popug_cli.server.thread_pools import ThreadPools

NOT_FOUND, WRONG_METHOD = 404, 405
ReportFault = Callable[[Exception], None]


def build(
    company: ServedCompany,
    pools: ThreadPools,
    ending: asyncio.Event,
    identity: ServerIdentity,
    report_fault: ReportFault,
) -> Litestar:
    """Build the application. `ending` is set at shutdown; `report_fault` is called for internal errors."""

    def handle_error(request: WebRequest, error: Exception) -> Response[bytes]:
        return _problem_response(_http_error_of(error, request, report_fault))

    return Litestar(
        route_handlers=[
            *(_route(declaration, company, pools) for declaration in public_messages()),
            *meta_routes.routes(company, pools, ending, identity),
        ],
        openapi_config=None,
        exception_handlers={Exception: handle_error, HTTPException: handle_error},
        logging_config=None,
    )


def large_paths() -> frozenset[str]:
    """Return the paths of the messages that may be as large as an import file."""
    return frozenset(path_of(declaration) for declaration in public_messages() if has_large_body(declaration))


def _route(declaration: Declaration, company: ServedCompany, pools: ThreadPools) -> HTTPRouteHandler:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: WebRequest) -> Response[bytes]:
        token, key = bearer(request), idempotency_key(request)

        def work() -> Response[bytes]:
            message = message_of(decoder, request)
            try:
                return answer_of(company.perform(message, token, key=key))
            except OverflowError:
                raise invalid_message("a number in it is too large") from None

        return await pools.run(declaration, work)

    perform.__name__ = declaration.name
    return post(path_of(declaration), status_code=200, media_type=JSON, name=declaration.name)(perform)


def _http_error_of(error: Exception, request: WebRequest, report_fault: ReportFault) -> HttpError:
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PopugError):
        if error.exit_status in {1, 7}:
            report_fault(error)
        return HttpError(http_errors.status_of(error), error)
    if isinstance(error, HTTPException) and error.status_code == NOT_FOUND:
        return http_errors.no_such_route(request.scope["path"])
    if isinstance(error, HTTPException) and error.status_code == WRONG_METHOD:
        allowed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow", "POST")
        return http_errors.wrong_method(request.method, request.scope["path"], allowed)
    report_fault(error)
    fault = InternalError("internal", "popug failed with an internal error.", hint="The server's log has the details.")
    return HttpError(500, fault)


def _problem_response(error: HttpError) -> Response[bytes]:
    document = http_errors.problem_of(error.error, error.status)
    return Response(
        http_errors.encode(document),
        status_code=error.status,
        media_type=problem.MEDIA_TYPE,
        headers=http_errors.headers_of(error.error, error.status) | error.headers,
    )
