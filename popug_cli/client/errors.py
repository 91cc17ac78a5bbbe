"""Errors of the client: failed requests, and the errors that a server reports, converted to their classes."""

import msgspec

from popug_cli import __version__
from popug_cli.kernel.errors import (
    Conflict,
    IntegrityViolation,
    InternalError,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PopugError,
    Unavailable,
)
from popug_cli.messages.problem import ProblemDocument

CLASS_BY_EXIT_STATUS: dict[int, type[PopugError]] = {
    error_class.exit_status: error_class
    for error_class in (
        InternalError,
        InvalidInput,
        NotFound,
        NotAuthenticated,
        NotAllowed,
        Conflict,
        IntegrityViolation,
        Unavailable,
    )
}
IN_DOUBT_CLAUSE = "the request may have taken effect"
IN_DOUBT_HINT = "Check with another command before you repeat it."


def error_from_problem(document: bytes) -> PopugError | None:
    """Return the error that a problem document describes, or None if it is not a valid one."""
    try:
        problem = msgspec.json.decode(document, type=ProblemDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    error_class = CLASS_BY_EXIT_STATUS.get(problem.exit_status)
    return (
        error_class(problem.code, problem.detail, hint=problem.hint, details=problem.details) if error_class else None
    )


class ServerErrors(msgspec.Struct, frozen=True):
    """Creates the errors about the server at one address."""

    url: str

    def unreachable(self, error: OSError) -> PopugError:
        """Return the error for a connection that could not be opened; no request was sent."""
        certificate_problem = getattr(error, "verify_message", "")  # of a certificate
        if certificate_problem:
            sentence = f"The certificate of {self.url} is not trusted: {certificate_problem}."
            return self._unavailable(sentence, "Trust its issuer: set SSL_CERT_FILE to a file with its certificate.")
        if type(error).__module__ == "ssl":
            return self._unavailable(f"The server at {self.url} does not use TLS.", "Check the address: http or https?")
        return self._unavailable(
            f"No server can be reached at {self.url}: {_reason(error)}.",
            "Check the address, and that `popug serve` runs there.",
        )

    def disconnected(self, error: Exception, *, in_doubt: bool = False) -> PopugError:
        """Return the error for a broken connection, once the request is not retried any more."""
        return self._request_failed(
            f"The connection to {self.url} broke before the answer came ({_reason(error)})", in_doubt
        )

    def timed_out(self, error: Exception, *, in_doubt: bool = False) -> PopugError:
        """Return the error for a server that did not answer in time."""
        return self._request_failed(f"The server at {self.url} does not answer ({_reason(error)})", in_doubt)

    def malformed(self, reason: str, *, in_doubt: bool = False) -> PopugError:
        """Return the error for a response that is not valid; `reason` says why."""
        return self._request_failed(f"The server at {self.url} sent an invalid answer: {reason}", in_doubt)

    def version_mismatch(self, status: int, location: str, version: str) -> PopugError:
        """Return the error for a response that is not from a popug server of this release."""
        if version:
            sentence = f"The server at {self.url} is popug {version[:40]}, and this is popug {__version__}."
            hint = "Use the same version on both sides."
        elif 300 <= status < 400 and location:
            sentence = f"The server at {self.url} redirects to {location[:200]}, which popug does not follow."
            hint = "Give the server's own address."
        else:
            sentence = f"The server at {self.url} is not a popug server."
            hint = "Check the address; `popug serve` prints its own."
        return Unavailable("server_version", sentence, hint=hint, details={"server": self.url})

    def _request_failed(self, sentence: str, in_doubt: bool) -> PopugError:
        if not in_doubt:
            return self._unavailable(f"{sentence}.", "Try again in a while.")
        return Unavailable(
            "in_doubt", f"{sentence}; {IN_DOUBT_CLAUSE}.", hint=IN_DOUBT_HINT, details={"server": self.url}
        )

    def _unavailable(self, sentence: str, hint: str) -> PopugError:
        return Unavailable("server_unavailable", sentence, hint=hint, details={"server": self.url})


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
