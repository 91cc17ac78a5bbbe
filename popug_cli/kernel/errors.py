"""The tree of errors. The core raises them; one place of each interface turns them into sentences and exit codes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from popug_cli.kernel.positions import Positions


class PopugError(Exception):
    """A refusal or a failure that has a code, a sentence and a hint.

    ``code`` is stable and meant for programs. ``message`` is a sentence for people, ``hint`` says what to do next, and
    ``details`` holds the JSON values used in the sentence. If a server performed the message, ``positions`` are those
    of the logs that it had read or written before it failed.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})
        self.positions: Positions = {}


class InternalError(PopugError):
    """An error in the program itself."""

    exit_status = 1


class InvalidInput(PopugError):
    """Wrong usage or invalid input."""

    exit_status = 2


class NotFound(PopugError):
    """The named object does not exist."""

    exit_status = 3


class NotAuthenticated(PopugError):
    """No user is logged in, or the token is not valid."""

    exit_status = 4


class NotAllowed(PopugError):
    """The user is not allowed to do what was asked."""

    exit_status = 5


class Conflict(PopugError):
    """The current state of the company does not allow what was asked."""

    exit_status = 6


class IntegrityViolation(PopugError):
    """Stored data contradicts itself."""

    exit_status = 7


class Unavailable(PopugError):
    """Not possible now. Nothing was changed, unless the code is ``in_doubt``: then it may have been."""

    exit_status = 8
