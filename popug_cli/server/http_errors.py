"""HTTP errors: their status, headers and problem documents (RFC 9457)."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from popug_cli.kernel.errors import InvalidInput, NotAllowed, NotFound, PopugError, Unavailable
from popug_cli.messages.problem import ProblemDocument

URN_PREFIX = "urn:popug:error:"
STATUS_BY_EXIT_STATUS = {1: 500, 2: 422, 3: 404, 4: 401, 5: 403, 6: 409, 7: 500, 8: 503}
TITLE_BY_EXIT_STATUS = {
    1: "Internal error",
    2: "Wrong usage or invalid input",
    3: "Not found",
    4: "Not logged in",
    5: "Not allowed",
    6: "The current state does not allow it",
    7: "An integrity check failed",
    8: "Not available now",
}
TOO_MANY_REQUESTS = 429
MAX_QUOTED_CHARACTERS = 4_000


def problem_of(error: PopugError, status: int | None = None) -> ProblemDocument:
    """Convert an error to a problem document. Without `status`, the kind of error determines it."""
    return ProblemDocument(
        type=URN_PREFIX + error.code,
        title=TITLE_BY_EXIT_STATUS[error.exit_status],
        status=status or status_of(error),
        detail=_shorten(error.message),
        code=error.code,
        hint=error.hint,
        details={name: _shorten(value) for name, value in error.details.items()},
        exit_status=error.exit_status,
    )


def status_of(error: PopugError) -> int:
    """Return the HTTP status of an error."""
    return TOO_MANY_REQUESTS if error.code == "too_many_attempts" else STATUS_BY_EXIT_STATUS[error.exit_status]


def encode(problem: ProblemDocument) -> bytes:
    """Encode the document as JSON; convert values that JSON cannot represent to text, and escape lone surrogates."""
    try:
        return msgspec.json.encode(problem, enc_hook=str)
    except UnicodeEncodeError:
        safe = msgspec.to_builtins(problem, enc_hook=str)
        return msgspec.json.encode({name: _escape_surrogates(value) for name, value in safe.items()})


def headers_of(error: PopugError, status: int) -> dict[str, str]:
    """Return the headers that the status requires."""
    if status == TOO_MANY_REQUESTS:
        return {"Retry-After": str(error.details.get("wait_seconds", 1))}
    if status == STATUS_BY_EXIT_STATUS[4]:
        error_parameter = ', error="invalid_token"' if error.code.startswith("token_") else ""
        return {"WWW-Authenticate": f'Bearer realm="popug"{error_parameter}'}
    return {}


def _shorten(value: Any) -> Any:
    """Return a text that may quote a long request, cut to ``MAX_QUOTED_CHARACTERS``; other values as they are."""
    if not isinstance(value, str) or len(value) <= MAX_QUOTED_CHARACTERS:
        return value
    return value[:MAX_QUOTED_CHARACTERS] + "…"


def _escape_surrogates(value: Any) -> Any:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


@dataclass(slots=True)
class HttpError(Exception):
    """An error response, whose status may differ from that of its kind of error.

    With `closes_connection` the connection is closed after the response. Otherwise the rest of the request is read and
    discarded for a while, so that the client can read the response.
    """

    status: int
    error: PopugError
    closes_connection: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def too_large(limit_bytes: int) -> HttpError:
    """Return the error for a body over the limit."""
    sentence = f"The body is larger than {limit_bytes:,} bytes."
    return HttpError(413, InvalidInput("usage", sentence, hint="Send less at once."))


def answer_too_large(limit_bytes: int) -> InvalidInput:
    """Return the error for a query whose answer is over the limit."""
    sentence = f"The answer is larger than {limit_bytes:,} bytes."
    return InvalidInput("answer_too_large", sentence, hint="Ask for less at once, with a limit, dates or a filter.")


def too_many_objects(limit: int) -> HttpError:
    """Return the error for a body of too many objects, whose decoding costs far more than its size suggests."""
    sentence = f"The body contains more than {limit:,} objects."
    return HttpError(413, InvalidInput("usage", sentence, hint="Send less at once."))


def headers_too_large(limit_bytes: int) -> HttpError:
    """Return the error for headers over the limit."""
    sentence = f"The headers are larger than {limit_bytes:,} bytes."
    return HttpError(431, InvalidInput("usage", sentence, hint="Send fewer and shorter ones."))


def target_too_long(limit_bytes: int) -> HttpError:
    """Return the error for a path and query over the limit."""
    sentence = f"The address is longer than {limit_bytes:,} bytes."
    return HttpError(414, InvalidInput("usage", sentence, hint="GET /schema lists every route."))


def duplicate_header(name: str) -> HttpError:
    """Return the error for a header that is sent more than once but may have one value only."""
    sentence = f"The header {name} is sent more than once."
    return HttpError(400, InvalidInput("usage", sentence, hint="Send it once."))


def two_lengths() -> HttpError:
    """Return the error for a body whose length is given twice (RFC 9112, section 6.1): proxies may disagree on it."""
    sentence = "The request has a Content-Length and a Transfer-Encoding."
    hint = "Send one of them."
    return HttpError(400, InvalidInput("usage", sentence, hint=hint), closes_connection=True)


def chunks_too_small() -> HttpError:
    """Return the error for a body in too many small chunks, whose decoding costs far more than its size suggests."""
    sentence = "The chunks of the body are too small."
    return HttpError(400, InvalidInput("usage", sentence, hint="Send larger chunks, or a Content-Length."))


def too_slow() -> HttpError:
    """Return the error for a request that did not arrive completely in time."""
    sentence = "The request was not complete in time."
    return HttpError(408, InvalidInput("usage", sentence, hint="Send it in one go."), closes_connection=True)


def not_json() -> HttpError:
    """Return the error for a body that is not declared as JSON; a form on a web page could send it."""
    sentence = "The body must be JSON, sent as Content-Type: application/json, and not compressed."
    return HttpError(415, InvalidInput("usage", sentence, hint="Send that header, and no Content-Encoding."))


def unknown_host(host: str) -> HttpError:
    """Return the error for a ``Host`` that is not a name of this server, which may be DNS rebinding by a web page."""
    sentence = f"{host!r} is not a name of this server."
    return HttpError(421, InvalidInput("usage", sentence, hint="Use localhost or 127.0.0.1."))


def cross_origin() -> HttpError:
    """Return the error for a request that a web page of another origin sent."""
    sentence = "Web pages of other origins may not send requests to popug."
    return HttpError(403, NotAllowed("forbidden", sentence, hint="Use a client that is not a web page."))


def no_such_route(path: str) -> HttpError:
    """Return the error for a path without a route."""
    hint = "GET /schema lists every route; operator commands have none."
    return HttpError(404, NotFound("route_not_found", f"There is no route {path}.", hint=hint))


def wrong_method(method: str, path: str, allowed: str) -> HttpError:
    """Return the error for a path that has a route for other methods only."""
    error = InvalidInput("usage", f"{path} does not support {method}.", hint=f"Use {allowed}.")
    return HttpError(405, error, headers={"Allow": allowed})


def other_version(client_version: str, server_version: str) -> HttpError:
    """Return the error for a client of another release, whose messages may differ."""
    error = Unavailable(
        "server_version",
        f"The server is popug {server_version}, but the client is popug {client_version}.",
        hint="Install the same version on both sides.",
        details={"server": server_version, "client": client_version},
    )
    return HttpError(503, error)


def busy() -> Unavailable:
    """Return the error of an overloaded server."""
    return Unavailable(
        "server_unavailable", "The server is overloaded; nothing was done.", hint="Try again in a moment."
    )


def shutting_down() -> Unavailable:
    """Return the error of a server that is shutting down and accepts no new requests."""
    return Unavailable(
        "server_unavailable", "The server is shutting down; nothing was done.", hint="Try again in a moment."
    )


def not_ready(error: PopugError) -> HttpError:
    """Return the 503 response for a company that cannot be used now; `error` is the reason."""
    return HttpError(503, error)


def shutdown_in_doubt() -> Unavailable:
    """Return the error for work that was not finished when the server stopped."""
    return Unavailable(
        "in_doubt",
        "The server stopped before the request was finished; it may have taken effect.",
        hint="Check with another command before you repeat it.",
    )


def in_doubt(seconds: float) -> Unavailable:
    """Return the error for work that is not finished after `seconds` and continues."""
    return Unavailable(
        "in_doubt",
        f"The server is still working on the request after {seconds:g} s; it may still take effect.",
        hint="Check with another command before you repeat it.",
    )
