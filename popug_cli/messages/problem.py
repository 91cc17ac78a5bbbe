"""The problem document (RFC 9457) of an error over HTTP: the server writes it, the client reads it."""

from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An error: RFC 9457's members, and ``code``, ``hint``, ``details`` and ``exit_status`` of the command line."""

    # A server sends all of them. A client needs only those without a default to raise the error again.
    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str
    code: str
    hint: str = ""
    details: dict[str, Any] = {}
    exit_status: int
