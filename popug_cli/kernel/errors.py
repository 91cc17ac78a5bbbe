"""The tree of errors: raised in the core, turned into words and exit codes in one place of each face."""

from collections.abc import Mapping
from typing import Any, ClassVar


class PopugError(Exception):
    """A refusal or a fault that has a code, a sentence and a way out.

    ``code`` is stable and meant for programs, ``message`` a sentence for people, ``hint`` what to do next and
    ``details`` JSON values that the sentence was made of.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})


class InternalError(PopugError):
    """A fault of the program's own."""

    exit_status = 1


class InvalidInput(PopugError):
    """Wrong usage or invalid input."""

    exit_status = 2


class NotFound(PopugError):
    """What was named does not exist."""

    exit_status = 3


class NotAuthenticated(PopugError):
    """Nobody is logged in, or the token is no good."""

    exit_status = 4


class NotAllowed(PopugError):
    """The one who asks may not do this."""

    exit_status = 5


class Conflict(PopugError):
    """The present state does not allow it."""

    exit_status = 6


class IntegrityViolation(PopugError):
    """Stored data contradicts itself."""

    exit_status = 7


class Unavailable(PopugError):
    """Not possible now; nothing was changed, unless the code is ``in_doubt``."""

    exit_status = 8
