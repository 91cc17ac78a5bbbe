"""The company that a server serves: ``ServedCompany`` holds a home open, a gateway asks the services of a cluster."""

from collections.abc import Callable
from typing import Any, Protocol

from popug_cli.app.hosting.served_company import NO_POSITIONS, PerformResult
from popug_cli.kernel.positions import Positions
from popug_cli.messages.base import Message
from popug_cli.messages.identity import LogIn


class Served(Protocol):
    """Performs messages for the clients of a server; safe to use from many threads."""

    @property
    def home_id(self) -> str:
        """The id of the company."""
        ...

    @property
    def time_zone(self) -> str:
        """The IANA name of the company's time zone."""
        ...

    def perform(
        self,
        message: Message[Any],
        token: str | None,
        *,
        key: str | None = None,
        seen: Positions = NO_POSITIONS,
        waited_seconds: float | None = None,
    ) -> PerformResult:
        """Perform a message on behalf of the token's owner; raise a ``PopugError`` with positions for any failure.

        With ``waited_seconds``, it may raise ``StillBehindError``: the caller then sends the message again.
        """
        ...

    def has_verified(self, token: str | None) -> bool:
        """Return whether the signature of a token was verified before and the token has not expired."""
        ...

    def verify(self, token: str | None) -> None:
        """Raise the error of a missing token, or of one whose signature or lifetime is not valid (exit status 4)."""
        ...

    def authenticate(self, token: str | None) -> None:
        """Raise the error of a token that permits no large request (exit status 4 or 5)."""
        ...

    def user_of_known_device(self, message: LogIn) -> str | None:
        """Return the username in lower case, if the device that logs in has logged in as this user before."""
        ...

    def username_of(self, message: LogIn) -> str | None:
        """Return the name of the user that logs in, or None if it is not known here."""
        ...

    def probe(self) -> dict[str, Any]:
        """Raise an error if messages cannot be performed now; else return what ``/readyz`` says in addition."""
        ...

    def check(self) -> None:
        """Raise an error if the server has to stop."""
        ...

    def follow(self, warn: Callable[[str], None]) -> bool:
        """Do the work that waits between messages; return whether none is left. The server calls it every second."""
        ...

    def stop_reconnecting(self) -> None:
        """Stop all waits for a database that cannot be reached, because the server stops."""
        ...

    def is_database_reachable(self) -> bool:
        """Return whether the threads that work can still finish; that takes up to two seconds."""
        ...

    def close(self) -> None:
        """Release what is held open."""
        ...
