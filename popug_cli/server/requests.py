"""What is read of a request: the message, who sends it, and under which key; and what is written of an answer."""

import json
from collections.abc import Collection, Iterator
from typing import Any, get_origin

import msgspec
from litestar import Request, Response

from popug_cli.app.hosting.served_company import PerformResult
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import Access, Declaration, declarations
from popug_cli.server import http_errors, request_limits
from popug_cli.server.http_errors import HttpError
from popug_cli.server.request_limits import BODY, HEADERS

MAX_WARNING_BYTES = 8 * 1024
MAX_LINES = 1_000_000
MAX_INTEGER_DIGITS = 2**63 - 1
JSON = "application/json"
WebRequest = Request[Any, Any, Any]


def public_messages() -> Iterator[Declaration]:
    """Every message that goes over a network."""
    return (declaration for declaration in declarations() if declaration.access is not Access.OPERATOR)


def path_of(declaration: Declaration) -> str:
    """Where a message is sent to."""
    return f"/v1/{declaration.module}/{declaration.name}"


def has_large_body(declaration: Declaration) -> bool:
    """Whether a message holds as much as somebody likes, as the lines of a file."""
    return any(get_origin(field.type) is Collection for field in msgspec.structs.fields(declaration.message))


def header(request: WebRequest, name: bytes) -> str | None:
    """A header of a request; None where it has none."""
    value: bytes | None = request.scope["state"][HEADERS].get(name)
    return None if value is None else value.decode("latin-1").strip()


def bearer(request: WebRequest) -> str | None:
    """The token of a request; None where it has none."""
    return request_limits.bearer(request.scope["state"][HEADERS])


def idempotency_key(request: WebRequest) -> str | None:
    """The key under which a command may be sent again; as a text of RFC 9651 its quotes are none of it."""
    key = header(request, b"idempotency-key")
    if key is None:
        return None
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


def message_of(decoder: "msgspec.json.Decoder[Any]", request: WebRequest) -> Any:
    """The message in the body; raises ``usage``, with status 400 where the body is no JSON at all."""
    body: bytes = request.scope["state"].pop(BODY)
    if len(body) > MAX_LINES and body.count(b"{") > MAX_LINES:
        raise http_errors.too_many_lines(MAX_LINES)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        sentence = f"The body is no JSON: {error}."
        raise HttpError(400, InvalidInput("usage", sentence, hint="Send one JSON object.")) from None


def invalid_message(reason: str) -> InvalidInput:
    """A message that is not of its shape."""
    return InvalidInput("usage", f"The message is not valid: {reason}.", hint="GET /schema says what it takes.")


def answer_of(performed: PerformResult) -> Response[bytes]:
    """What was performed, as an answer."""
    headers = {"Popug-Warnings": _warnings_header(performed.warnings)} if performed.warnings else {}
    if performed.is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(msgspec.json.encode(performed.answer), status_code=200, media_type=JSON, headers=headers)


def _warnings_header(warnings: list[str]) -> str:
    """The sentences as one header: ASCII, and as many as it can hold."""
    while len(header := json.dumps(warnings)) > MAX_WARNING_BYTES:
        warnings = warnings[:-1]
    return header
