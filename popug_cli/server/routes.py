"""The routes: one per message, created from its declaration, and the routes about the server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.app.replica_reads import FIRST_PAUSE_SECONDS, StillBehindError
from popug_cli.kernel import positions
from popug_cli.kernel.errors import IntegrityViolation, InternalError, PopugError
from popug_cli.messages.base import Access, Declaration
from popug_cli.messages.identity import LogIn
from popug_cli.server import http_errors, meta_routes, part_routes
from popug_cli.server.application import Application, Response, Route, WebRequest
from popug_cli.server.http_errors import HttpError
from popug_cli.server.login_limits import LoginLimits
from popug_cli.server.peers import PEER_KEY, UNKNOWN_PEER
from popug_cli.server.request_limits import ServerIdentity
from popug_cli.server.requests import (
    POSITION,
    decode_message,
    encode_answer,
    has_large_body,
    idempotency_key,
    invalid_message,
    public_messages,
    seen_positions,
)
from popug_cli.server.served import Served
from popug_cli.server.thread_pools import ThreadPools

if TYPE_CHECKING:
    from popug_cli.server.metrics import Metrics

LONGEST_PAUSE_SECONDS = 0.5  # many requests may wait at once, and each attempt costs CPU time
REPORTED_EXIT_STATUSES = {InternalError.exit_status, IntegrityViolation.exit_status}
ReportError = Callable[[Exception], None]


def build(
    company: Served,
    pools: ThreadPools,
    shutdown_requested: asyncio.Event,
    server_identity: ServerIdentity,
    report_error: ReportError,
    metrics: "Metrics | None" = None,
) -> Application:
    """Build the application. `report_error` is called for internal errors and integrity violations."""

    async def run_part(perform: Callable[[float], Response]) -> Response:
        return await _until_covered(lambda seconds: pools.run_part(partial(perform, seconds)), shutdown_requested)

    return Application(
        [
            *(_message_route(declaration, company, pools, shutdown_requested) for declaration in public_messages()),
            *(part_routes.routes(company, run_part) if isinstance(company, ServedCompany) else ()),
            *meta_routes.routes(company, pools, shutdown_requested, server_identity, metrics),
        ],
        convert_error=partial(_http_error_of, report_error=report_error),
    )


def large_body_paths() -> frozenset[str]:
    """Return the paths of the messages that may be as large as an import file."""
    return frozenset(declaration.path for declaration in public_messages() if has_large_body(declaration))


def token_paths(service: str) -> frozenset[str]:
    """Return the paths of the messages, and of the parts that a service performs, that need a token."""
    messages = (message.path for message in public_messages() if message.access is Access.TOKEN)
    return frozenset((*messages, *(part.part_path for part in part_routes.parts_of(service))))


def _login_route(declaration: Declaration, company: Served, pools: ThreadPools) -> Route:
    """Return the route for logins; ``LoginLimits`` decides which of them wait, by their peer and device."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)
    limits = LoginLimits(company, pools)

    async def log_in(request: WebRequest) -> Response:
        message: LogIn = decode_message(decoder, request)
        key, peer = idempotency_key(request), request.scope["state"].get(PEER_KEY, UNKNOWN_PEER)

        def perform() -> Response:
            return encode_answer(company.perform(message, None, key=key), declaration)

        return await limits.perform(message, peer, perform)

    return Route(declaration.path, log_in, methods=("POST",))


def _message_route(
    declaration: Declaration, company: Served, pools: ThreadPools, shutdown_requested: asyncio.Event
) -> Route:
    if declaration.message is LogIn:
        return _login_route(declaration, company, pools)
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: WebRequest) -> Response:
        token, key, seen = request.bearer, idempotency_key(request), seen_positions(request)
        messages: list[Any] = []

        def perform_message(waited_seconds: float) -> Response:
            message = messages[0] if messages else decode_message(decoder, request)
            messages[:] = [message]
            try:
                result = company.perform(message, token, key=key, seen=seen, waited_seconds=waited_seconds)
                return encode_answer(result, declaration)
            except OverflowError:
                raise invalid_message("a number in it is too large") from None

        def try_once(waited_seconds: float) -> Awaitable[Response]:
            return pools.run(declaration, partial(perform_message, waited_seconds))

        return await _until_covered(try_once, shutdown_requested)

    return Route(declaration.path, perform, methods=("POST",))


async def _until_covered(
    try_once: Callable[[float], Awaitable[Response]], shutdown_requested: asyncio.Event
) -> Response:
    """Try again until a service covers what the caller has seen, or has waited long enough; hold no thread in between.

    ``try_once`` receives the seconds since the first attempt. The attempt after a request to shut down is the last one.
    """
    began, pause = monotonic(), FIRST_PAUSE_SECONDS
    while True:
        try:
            return await try_once(inf if shutdown_requested.is_set() else monotonic() - began)
        except StillBehindError:
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(shutdown_requested.wait(), pause)


def _http_error_of(error: Exception, report_error: ReportError) -> HttpError:
    """Convert an exception of a request to the error of its response; report it if the operator must know of it."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PopugError):
        if error.exit_status in REPORTED_EXIT_STATUSES:
            report_error(error)
        headers = {POSITION: positions.text_of(error.positions)} if error.positions else {}
        return HttpError(http_errors.status_of(error), error, headers=headers)
    report_error(error)
    internal_error = InternalError(
        "internal", "popug failed with an internal error.", hint="The server's log has the details."
    )
    return HttpError(500, internal_error)
