"""Decode requests (message, token, idempotency key) and encode responses."""

import json
from collections.abc import Collection, Iterator
from typing import Any, get_origin

import msgspec

from popug_cli.app.hosting.served_company import PerformResult
from popug_cli.kernel import positions
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import MAX_MESSAGE_BYTES, Access, Declaration, declarations
from popug_cli.server import http_errors
from popug_cli.server.application import Response, WebRequest
from popug_cli.server.http_errors import HttpError

MAX_WARNING_BYTES = 8 * 1024
MAX_OBJECTS = 1_000_000
MAX_INTEGER = 2**63 - 1
JSON = "application/json"
POSITION = "Popug-Position"


def public_messages() -> Iterator[Declaration]:
    """Return the declarations of all messages that a server accepts: all but the operator's."""
    return (declaration for declaration in declarations() if declaration.access is not Access.OPERATOR)


def has_large_body(declaration: Declaration) -> bool:
    """Return whether a message has a collection of any size, such as the lines of a file."""
    return any(get_origin(field.type) is Collection for field in msgspec.structs.fields(declaration.message))


def idempotency_key(request: WebRequest) -> str | None:
    """Return the ``Idempotency-Key``, without the quotes of an RFC 9651 string, or None."""
    key = request.header(b"idempotency-key")
    if key is None:
        return None
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


def seen_positions(request: WebRequest) -> positions.Positions:
    """Return the positions that the client has seen; those that are not valid are ignored."""
    return positions.parse(request.header(POSITION.lower().encode()))


def decode_message(decoder: "msgspec.json.Decoder[Any]", request: WebRequest) -> Any:
    """Decode the message in the body.

    Raise ``usage``: with status 400 if the body is not JSON, 413 if it has too many objects, 422 if it does not fit the
    message.
    """
    body = request.take_body()
    if len(body) > MAX_OBJECTS and body.count(b"{") > MAX_OBJECTS:
        raise http_errors.too_many_objects(MAX_OBJECTS)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_message(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        sentence = f"The body is not valid JSON: {error}."
        raise HttpError(400, InvalidInput("usage", sentence, hint="Send one JSON object.")) from None


def invalid_message(reason: str) -> InvalidInput:
    """Return the error for a message that does not fit its schema."""
    return InvalidInput("usage", f"The message is not valid: {reason}.", hint="GET /schema shows its fields.")


def encode_answer(result: PerformResult, declaration: Declaration) -> Response:
    """Encode a result as a response. Raise ``answer_too_large`` for a query whose answer is too large."""
    content = msgspec.json.encode(result.answer)
    if len(content) > MAX_MESSAGE_BYTES and not declaration.is_command:
        raise http_errors.answer_too_large(MAX_MESSAGE_BYTES)
    headers = {POSITION: positions.text_of(result.positions)}
    if result.warnings:
        headers["Popug-Warnings"] = _warnings_header(result.warnings)
    if result.is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(content, JSON, headers=headers)


def _warnings_header(warnings: list[str]) -> str:
    """Encode warnings as one ASCII header; drop the last ones that exceed its size."""
    while len(header := json.dumps(warnings)) > MAX_WARNING_BYTES:
        warnings = warnings[:-1]
    return header
