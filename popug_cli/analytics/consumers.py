"""What analytics does about events."""

from collections.abc import Sequence

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.runtime import Context
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Take events."""


CONSUMER = Consumer("analytics", (), consume)
