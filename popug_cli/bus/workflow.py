"""The backend as a module's workflow sees it: a handler that runs several transactions, such as sending mail."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from popug_cli.bus.catch_up import CatchUpResult
from popug_cli.bus.context import Context, Runtime
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.principal import Principal

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class AskedCompany(Protocol):
    """The modules as one snapshot sees them; ``context`` is that of the workflow's own module."""

    context: Context

    def ask(self, message: Message[Answer]) -> Answer:
        """Return the answer of the module that performs the message; raise its errors, or ``forbidden``."""
        ...


class WorkflowBackend(Protocol):
    """Runs the transactions of a workflow. ``warn`` receives the warnings of the message."""

    home: Home
    warn: Callable[[str], None]

    @property
    def runtime(self) -> Runtime:
        """The open company."""
        ...

    def asking(self, principal: Principal, *, is_command: bool = False) -> AbstractContextManager[AskedCompany]:
        """Return a context that asks other modules, all on one snapshot, for a query or a command."""
        ...

    def write(self, message: Message[Any], principal: Principal, handle: Callable[[Context], Result]) -> Result:
        """Authorize the message and call ``handle`` in one write transaction; return its result."""
        ...

    def catch_up(self, *, include_not_due: bool = False, completely: bool = False) -> CatchUpResult:
        """Run the consumers and return the result."""
        ...
