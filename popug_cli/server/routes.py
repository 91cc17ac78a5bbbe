"""The routes: one per message, created from its declaration, and the routes about the server."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import IntegrityViolation, InternalError, PopugError
from popug_cli.messages import problem
from popug_cli.messages.base import Declaration
from popug_cli.server import http_errors, meta_routes
from popug_cli.server.http_errors import HttpError
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.requests import (
    JSON,
    WebRequest,
    bearer,
    decode_message,
    encode_answer,
    has_large_body,
    idempotency_key,
    invalid_message,
    path_of,
    public_messages,
)
from popug_cli.server.thread_pools import ThreadPools

NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405
REPORTED_EXIT_STATUSES = {InternalError.exit_status, IntegrityViolation.exit_status}
ReportError = Callable[[Exception], None]


def build(
    company: ServedCompany,
    pools: ThreadPools,
    shutdown_requested: asyncio.Event,
    server_identity: ServerIdentity,
    report_error: ReportError,
) -> Litestar:
    """Build the application. `report_error` is called for internal errors and integrity violations."""

    def handle_error(request: WebRequest, error: Exception) -> Response[bytes]:
        return _problem_response(_http_error_of(error, request, report_error))

    return Litestar(
        route_handlers=[
            *(_message_route(declaration, company, pools) for declaration in public_messages()),
            *meta_routes.routes(company, pools, shutdown_requested, server_identity),
        ],
        openapi_config=None,
        exception_handlers={Exception: handle_error, HTTPException: handle_error},
        logging_config=None,
    )


def large_body_paths() -> frozenset[str]:
    """Return the paths of the messages that may be as large as an import file."""
    return frozenset(path_of(declaration) for declaration in public_messages() if has_large_body(declaration))


def _message_route(declaration: Declaration, company: ServedCompany, pools: ThreadPools) -> HTTPRouteHandler:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: WebRequest) -> Response[bytes]:
        token, key = bearer(request), idempotency_key(request)

        def perform_message() -> Response[bytes]:
            message = decode_message(decoder, request)
            try:
                return encode_answer(company.perform(message, token, key=key))
            except OverflowError:
                raise invalid_message("a number in it is too large") from None

        return await pools.run(declaration, perform_message)

    perform.__name__ = declaration.name
    return post(path_of(declaration), status_code=200, media_type=JSON, name=declaration.name)(perform)


def _http_error_of(error: Exception, request: WebRequest, report_error: ReportError) -> HttpError:
    """Convert an exception of a request to the error to answer; report it if the operator must know it."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PopugError):
        if error.exit_status in REPORTED_EXIT_STATUSES:
            report_error(error)
        return HttpError(http_errors.status_of(error), error)
    if isinstance(error, HTTPException) and error.status_code == NOT_FOUND:
        return http_errors.no_such_route(request.scope["path"])
    if isinstance(error, HTTPException) and error.status_code == METHOD_NOT_ALLOWED:
        allowed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow", "POST")
        return http_errors.wrong_method(request.method, request.scope["path"], allowed)
    report_error(error)
    internal_error = InternalError(
        "internal", "popug failed with an internal error.", hint="The server's log has the details."
    )
    return HttpError(500, internal_error)


def _problem_response(error: HttpError) -> Response[bytes]:
    document = http_errors.problem_of(error.error, error.status)
    return Response(
        http_errors.encode(document),
        status_code=error.status,
        media_type=problem.MEDIA_TYPE,
        headers=http_errors.headers_of(error.error, error.status) | error.headers,
    )
