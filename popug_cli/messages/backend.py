"""The port through which interfaces perform messages: in this process, or on a server."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from popug_cli.messages.base import Message

if TYPE_CHECKING:
    from datetime import datetime

    from popug_cli.kernel.calendar import Calendar
    from popug_cli.messages.bus import EnvelopeDocument, ListEvents

Answer = TypeVar("Answer")


class Backend(Protocol):
    """Performs messages: ``LocalBackend`` in this process, ``RemoteBackend`` on a server."""

    @property
    def calendar(self) -> "Calendar":
        """The calendar of the company's time zone."""
        ...

    def now(self) -> "datetime":
        """Return the current instant by the company's clock, in UTC."""
        ...

    def perform(self, message: Message[Answer], token: str | None = None) -> Answer:
        """Perform the message on behalf of the token's user; raise a ``PopugError`` for every refusal."""
        ...

    def follow(self, message: "ListEvents", token: str | None = None) -> "Iterator[list[EnvelopeDocument]]":
        """Yield the events that the message asks for, then new ones as they happen, in lists and without end."""
        ...
