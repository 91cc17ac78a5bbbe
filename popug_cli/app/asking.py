"""Ask messages of the modules: the parts of a composed answer, all on one snapshot, and workflows."""

from typing import TYPE_CHECKING, Any, TypeVar

from popug_cli.app.handlers import module_function
from popug_cli.bus.context import Context
from popug_cli.identity.authorization import authorize_part
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

Answer = TypeVar("Answer")


class CompanySnapshot:
    """The modules of a company as one transaction sees them: they are asked by messages, and by nothing else.

    The principal of ``context`` is the sender of the whole message, and its role decides about each part. In a write
    transaction, a part may be a command.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    def ask(self, message: Message[Answer]) -> Answer:
        """Return the answer of the module that performs the message; raise its errors, or ``forbidden``."""
        answer: Answer = self.perform(message)
        return answer

    def perform(self, message: Message[Any]) -> Any:
        """Return what the module's handler returns: the answer or, for some commands, a query that gives it later."""
        declaration = DECLARATIONS[type(message)]
        assert not declaration.is_workflow, "a workflow has transactions of its own"
        authorize_part(self.context.principal, declaration, message)
        return module_function(declaration)(message, self.context)


def perform_part(backend: "LocalBackend", principal: Principal, message: Message[Answer]) -> Answer:
    """Perform a workflow that is a part of another message, on behalf of its sender; raise ``forbidden``."""
    declaration = DECLARATIONS[type(message)]
    assert declaration.is_workflow, "a part of one transaction is asked for inside that transaction"
    authorize_part(principal, declaration, message)
    answer: Answer = module_function(declaration)(backend, message, principal)
    return answer
