"""Who is let in: the token is proved with public keys, then looked up in identity's list."""

from typing import Any

from popug_cli.bus.runtime import Context, Runtime
from popug_cli.messages.base import Declaration, Message
from popug_cli.messages.principal import Principal


def identify(token: str, runtime: Runtime) -> Principal:
    """The holder of a token; raises exit 4 errors."""
    raise NotImplementedError


def admit(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Let a principal send a message; raises exit 4 for a revoked token, exit 5 where the role does not allow it."""
    raise NotImplementedError
