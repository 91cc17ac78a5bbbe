"""Messages whose answer or effect needs several modules; each module is asked through its own messages."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from popug_cli.messages.base import Message
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

Compose = Callable[["Local", Any, Principal], Any]

HANDLERS: dict[type[Message[Any]], Compose] = {}
