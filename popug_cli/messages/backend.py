"""The place of ``perform`` as its faces see it: this process, or a server."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from popug_cli.messages.base import Message

if TYPE_CHECKING:
    from datetime import datetime

    from popug_cli.kernel.calendar import Calendar
    from popug_cli.messages.bus import EnvelopeDocument, ListEvents

Answer = TypeVar("Answer")


class Backend(Protocol):
    """Where messages are performed."""

    @property
    def calendar(self) -> "Calendar":
        """The dates of the company's zone."""
        ...

    def now(self) -> "datetime":
        """The present instant by the company's clock, in UTC."""
        ...

    def perform(self, message: Message[Answer], token: str | None = None) -> Answer:
        """Do what the message asks for on behalf of the token's holder; raises a ``PopugError`` for every refusal."""
        ...

    def follow(self, message: "ListEvents", token: str | None = None) -> "Iterator[list[EnvelopeDocument]]":
        """The events that a message asks for, and then those that happen, without an end; some at a time."""
        ...
