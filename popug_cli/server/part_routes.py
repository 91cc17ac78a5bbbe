"""The routes at which the other services of a cluster ask a service for its parts of the messages they perform."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from popug_cli.app.handlers import HANDLER_MODULES, service_of
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.messages.base import DECLARATIONS, Access, Declaration
from popug_cli.messages.internal import analytics, billing, bus, changed_task, identity, mail, tasks
from popug_cli.server.application import Response, Route, WebRequest
from popug_cli.server.requests import decode_message, encode_answer, seen_positions

INTERNAL_MESSAGES = (analytics, billing, bus, changed_task, identity, mail, tasks)  # their import declares them
RunPart = Callable[[Callable[[float], Response]], Awaitable[Response]]
"""Calls a function in a thread for parts until it returns an answer; it receives the seconds since the first call."""


def routes(company: ServedCompany, run: RunPart) -> list[Route]:
    """Return a route for each part that the service performs; none if the company has one database."""
    return [_part_route(declaration, company, run) for declaration in parts_of(company.runtime.service)]


def parts_of(service: str) -> Iterator[Declaration]:
    """Yield the declarations of the parts that a service performs: the internal messages, and queries of its module.

    Each service performs an internal message of the bus. A command that users send has its own route only, where an
    idempotency key protects it.
    """
    for declaration in DECLARATIONS.values():
        performer, is_composed = service_of(declaration), declaration.message in HANDLER_MODULES
        is_part = performer == service and not is_composed and (declaration.is_internal or not declaration.is_command)
        is_part_of_each = performer == "" and declaration.is_internal
        if service and (is_part or is_part_of_each) and declaration.access is Access.TOKEN:
            yield declaration


def _part_route(declaration: Declaration, company: ServedCompany, run: RunPart) -> Route:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declaration.message)

    async def perform(request: WebRequest) -> Response:
        token, seen, message = request.bearer, seen_positions(request), decode_message(decoder, request)

        def perform_part(waited_seconds: float) -> Response:
            result = company.perform_part(message, token, seen=seen, waited_seconds=waited_seconds)
            return encode_answer(result, declaration)

        return await run(perform_part)

    return Route(declaration.part_path, perform, methods=("POST",))
