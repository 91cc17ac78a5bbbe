"""The requests that a client sends to a server."""

import os
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli import __version__
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages import problem
from popug_cli.messages.base import MAX_MESSAGE_BYTES, Access, Declaration, Message

if TYPE_CHECKING:
    from popug_cli.messages.bus import ListEvents

ANSWER_TIMEOUT_SECONDS = 150.0
SLOW_ANSWER_TIMEOUT_SECONDS = 3600.0
SLOW_MESSAGES = {
    "shuffle_tasks",
    "close_day",
    "replay_events",
    "import_tasks",
    "import_users",
    "send_mail",
    "retry_dead_letters",
}
MAX_TOKEN_CHARACTERS = 8_000


class HttpRequest(msgspec.Struct, frozen=True):
    """A request to the server. One that is not `is_repeatable` is sent at most once.

    If its answer does not arrive, a command is in doubt: it may have taken effect.
    """

    method: str
    target: str
    fields: dict[str, str]
    body: bytes = b""
    is_command: bool = False
    is_repeatable: bool = True
    timeout_seconds: float = ANSWER_TIMEOUT_SECONDS


def build_request(
    declaration: Declaration, path: str, message: Message[Any], token: str | None, seen: str, key: str | None
) -> HttpRequest:
    """Return the request for a message. ``seen`` is the text form of the positions that the sender has seen.

    ``key`` is the idempotency key of a command; without one, a command that may have one gets a random key. Raise
    ``usage`` for an import that is too large.
    """
    fields = {
        "Content-Type": "application/json",
        **header_fields(None if declaration.access is Access.PUBLIC else token),
    }
    fields |= {"Popug-Position": seen} if seen else {}
    has_key = declaration.is_command and not declaration.is_secret
    if has_key or key is not None:
        fields["Idempotency-Key"] = _random_uuid() if key is None else key
    return HttpRequest(
        method="POST",
        target=path,
        fields=fields,
        body=msgspec.json.encode(message, enc_hook=_encode_import),
        is_command=declaration.is_command,
        is_repeatable=has_key or not declaration.is_command,
        timeout_seconds=SLOW_ANSWER_TIMEOUT_SECONDS if declaration.name in SLOW_MESSAGES else ANSWER_TIMEOUT_SECONDS,
    )


def _encode_import(lines: Any) -> msgspec.Raw:
    """Encode the lines of an import as a JSON array; raise ``usage`` if it exceeds the server's limit."""
    encoded = bytearray(b"[")
    for line in lines:
        encoded += msgspec.json.encode(line) + b","
        if len(encoded) > MAX_MESSAGE_BYTES:
            sentence = f"The import is larger than {MAX_MESSAGE_BYTES:,} bytes."
            raise InvalidInput("usage", sentence, hint="Import it in several files, or on the machine of the server.")
    return msgspec.Raw(bytes(encoded.removesuffix(b",") + b"]"))


def stream_request(message: "ListEvents", last_event_id: str, token: str | None) -> HttpRequest:
    """Return the request for the events that a message asks for; those after ``last_event_id`` if it is not empty."""
    from urllib.parse import urlencode

    names = ("type", "subject", "actor", "after", "service", "cursor")
    query = urlencode({name: value for name in names if (value := getattr(message, name)) is not None})
    fields = header_fields(token) | {"Accept": "text/event-stream"}
    return HttpRequest(
        "GET", f"/v1/events?{query}", fields | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    )


def header_fields(token: str | None) -> dict[str, str]:
    """Return the header fields of every request. Replace characters that no token contains, so that it is rejected."""
    fields = {"Accept": f"application/json, {problem.MEDIA_TYPE}", "Popug-Version": __version__}
    if token is not None:
        fields["Authorization"] = f"Bearer {''.join(c if _is_plain(c) else '.' for c in token[:MAX_TOKEN_CHARACTERS])}"
    return fields


def _is_plain(character: str) -> bool:
    return "!" <= character <= "~"


def _random_uuid() -> str:
    """Return a UUID version 4, without importing ``uuid``."""
    random_bytes = bytearray(os.urandom(16))
    random_bytes[6], random_bytes[8] = random_bytes[6] & 0x0F | 0x40, random_bytes[8] & 0x3F | 0x80
    text = random_bytes.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
