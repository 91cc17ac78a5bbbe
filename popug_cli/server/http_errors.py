"""Refusals as problem documents (RFC 9457)."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from popug_cli.kernel.errors import InvalidInput, NotAllowed, NotFound, PopugError, Unavailable
from popug_cli.messages.problem import ProblemDocument

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


@dataclass(slots=True)
class HttpError(Exception):
    """An answer with a status of its own; with ``closes`` the connection is of no more use.

    Else what still comes of the request is let pass for a while, so that who is sending it can read the answer.
    """

    status: int
    error: PopugError
    closes: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def too_large(limit_bytes: int) -> HttpError:
    """A body over the limit."""
    sentence = f"The body is larger than {limit_bytes:,} bytes."
    return HttpError(413, InvalidInput("usage", sentence, hint="Send less at once."))


def too_many_lines(limit: int) -> HttpError:
    """A body that is mostly structure, which costs far more than its size."""
    sentence = f"The body holds more than {limit:,} lines."
    return HttpError(413, InvalidInput("usage", sentence, hint="Send less at once."))


def headers_too_large(limit_bytes: int) -> HttpError:
    """Headers over the limit."""
    sentence = f"The headers are larger than {limit_bytes:,} bytes."
    return HttpError(431, InvalidInput("usage", sentence, hint="Send fewer and shorter ones."))


def target_too_long(limit_bytes: int) -> HttpError:
    """A path and query over the limit."""
    sentence = f"The address is longer than {limit_bytes:,} bytes."
    return HttpError(414, InvalidInput("usage", sentence, hint="GET /schema lists every route."))


def duplicate_header(name: str) -> HttpError:
    """A header of which two would say two things."""
    sentence = f"There are several headers {name}."
    return HttpError(400, InvalidInput("usage", sentence, hint="Send it once."))


def too_slow(limit_seconds: float) -> HttpError:
    """A request that does not come to its end."""
    sentence = f"The request was not complete after {limit_seconds:g} s."
    return HttpError(408, InvalidInput("usage", sentence, hint="Send it in one go."), closes=True)


def not_json() -> HttpError:
    """A body that is not declared to be JSON, as a form of a page would be."""
    sentence = "The body has to be JSON, sent as Content-Type: application/json, and not packed."
    return HttpError(415, InvalidInput("usage", sentence, hint="Send that header, and no Content-Encoding."))


def unknown_host(host: str) -> HttpError:
    """A name that a server on this machine alone does not have: a page may have been led here by it."""
    sentence = f"This server is not called {host!r}."
    return HttpError(421, InvalidInput("usage", sentence, hint="Use localhost or 127.0.0.1."))


def cross_origin() -> HttpError:
    """A request that a page of somebody else made in a browser."""
    sentence = "Pages of other origins may not send requests to popug."
    return HttpError(403, NotAllowed("forbidden", sentence, hint="Use a client that is no page."))


def no_such_route(path: str) -> HttpError:
    """A path that leads nowhere."""
    hint = "GET /schema lists every route; what is the operator's has none."
    return HttpError(404, NotFound("route_not_found", f"There is nothing at {path}.", hint=hint))


def wrong_method(method: str, path: str, allowed: str) -> HttpError:
    """A path that takes another method."""
    error = InvalidInput("usage", f"{path} does not take {method}.", hint=f"It takes {allowed}.")
    return HttpError(405, error, headers={"Allow": allowed})


def other_version(theirs: str, ours: str) -> HttpError:
    """A client that may mean something else by the same words."""
    error = Unavailable(
        "server_version",
        f"The server is popug {ours}, you use popug {theirs}.",
        hint="Install the same version on both sides.",
        details={"server": ours, "client": theirs},
    )
    return HttpError(503, error)


def busy() -> Unavailable:
    """More to do than can be done soon."""
    return Unavailable(
        "server_unavailable", "The server has more to do than it can; nothing was done.", hint="Try again in a moment."
    )


def shutting_down() -> Unavailable:
    """A server that takes nothing new."""
    return Unavailable("server_unavailable", "The server is ending; nothing was done.", hint="Try again in a moment.")


def not_ready(error: PopugError) -> HttpError:
    """A company that cannot be worked with now, whatever the reason."""
    return HttpError(503, error)


def shutdown_in_doubt() -> Unavailable:
    """Work that was not done when the server's time was over."""
    return Unavailable(
        "in_doubt",
        "The server has ended before this was done; it may have been done all the same.",
        hint="Look with another command before you repeat it.",
    )


def in_doubt(seconds: float) -> Unavailable:
    """Work that is not done after a long time, and may be done yet."""
    return Unavailable(
        "in_doubt",
        f"The server is still at work on it after {seconds:g} s; it may be done yet.",
        hint="Look with another command before you repeat it.",
    )
