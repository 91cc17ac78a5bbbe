"""Refusals as problem documents (RFC 9457)."""

from typing import Any

import msgspec

from popug_cli.kernel.errors import PopugError

MEDIA_TYPE = "application/problem+json"
URN = "urn:popug:error:"
STATUS = {1: 500, 2: 422, 3: 404, 4: 401, 5: 403, 6: 409, 7: 500, 8: 503}
TITLES = {
    1: "A fault of the program's own",
    2: "Wrong usage or invalid input",
    3: "Not found",
    4: "Not logged in",
    5: "Not allowed",
    6: "The present state does not allow it",
    7: "An integrity check failed",
    8: "Not available now",
}
TOO_MANY = 429


class ProblemDocument(msgspec.Struct, frozen=True):
    """A refusal: RFC 9457's members, and ``code``, ``hint``, ``details`` and ``exit_status`` of the command line."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    details: dict[str, Any]
    exit_status: int


def problem_of(error: PopugError, status: int | None = None) -> ProblemDocument:
    """What is told of an error; its status follows from its kind where none is given."""
    return ProblemDocument(
        type=URN + error.code,
        title=TITLES[error.exit_status],
        status=status or status_of(error),
        detail=error.message,
        code=error.code,
        hint=error.hint,
        details=error.details,
        exit_status=error.exit_status,
    )


def status_of(error: PopugError) -> int:
    """The HTTP status of an error."""
    return TOO_MANY if error.code == "too_many_attempts" else STATUS[error.exit_status]


def encode(problem: ProblemDocument) -> bytes:
    """The document; what cannot be JSON in it is told as text."""
    try:
        return msgspec.json.encode(problem, enc_hook=str)
    except UnicodeEncodeError:
        safe = msgspec.to_builtins(problem, enc_hook=str)
        return msgspec.json.encode({name: _readable(value) for name, value in safe.items()})


def headers_of(error: PopugError, status: int) -> dict[str, str]:
    """The headers that belong to a status."""
    if status == TOO_MANY:
        return {"Retry-After": str(error.details.get("wait_seconds", 1))}
    if status == STATUS[4]:
        error_parameter = ', error="invalid_token"' if error.code.startswith("token_") else ""
        return {"WWW-Authenticate": f'Bearer realm="popug"{error_parameter}'}
    return {}


def _readable(value: Any) -> Any:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
