"""Ask the modules by messages: for the parts of a composed answer, all on one snapshot, and for workflows."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from popug_cli.app.handlers import module_function, service_of
from popug_cli.bus.context import Context
from popug_cli.identity.authorization import authorize_part
from popug_cli.kernel.errors import Conflict, Unavailable
from popug_cli.messages.base import DECLARATIONS, Declaration, Message
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

Answer = TypeVar("Answer")
AskService = Callable[[str, Principal, Message[Any]], Any]
"""Asks the service of that name for the answer to a part, on behalf of the sender of the whole message."""


def no_other_service(service: str, principal: Principal, message: Message[Any]) -> Any:
    """Raise the error for a part that another service performs, if no other service can be asked."""
    raise performed_elsewhere(DECLARATIONS[type(message)], service)


def require_service(declaration: Declaration, service: str) -> None:
    """Raise ``other_service`` if the database is that of ``service``, and another service performs the message."""
    if service and (performer := service_of(declaration)) not in ("", service):
        raise performed_elsewhere(declaration, performer)


def performed_elsewhere(declaration: Declaration, service: str) -> Conflict:
    """Return the error for a message that another service performs."""
    return Conflict(
        "other_service",
        f"`popug {declaration.command_line}` needs the service {service}, and this database is that of another one.",
        hint=f"Use the home or the server of {service}.",
        details={"service": service},
    )


class CompanySnapshot:
    """The modules of a company as one transaction sees them: they are asked by messages, and by nothing else.

    The principal of ``context`` is the sender of the whole message, and its role decides about each part. In a write
    transaction, a part may be a command. In the database of a service, ``ask_service`` asks the other services.
    """

    def __init__(self, context: Context, ask_service: AskService = no_other_service) -> None:
        self.context = context
        self._ask_service = ask_service

    def ask(self, message: Message[Answer]) -> Answer:
        """Return the answer of the module that performs the message; raise its errors, or ``forbidden``."""
        declaration = DECLARATIONS[type(message)]
        assert not declaration.is_workflow, "a workflow has transactions of its own"
        authorize_part(self.context.principal, declaration, message)
        if (service := self.context.service) and (performer := service_of(declaration)) not in ("", service):
            answer: Answer = self._ask_service(performer, self.context.principal, message)
        else:
            answer = module_function(declaration)(message, self.context)
        return answer


def ask_or_warn(
    backend: "LocalBackend", company: CompanySnapshot, message: Message[Answer], missing: str
) -> Answer | None:
    """Return the answer to a part, or None if another service has it and does not answer or is behind; then warn."""
    try:
        return company.ask(message)
    except Unavailable as error:
        if error.code not in {"service_unavailable", "behind"}:
            raise
        backend.warn(f"{error.message} {missing}")
        return None


def perform_part(backend: "LocalBackend", principal: Principal, message: Message[Answer]) -> Answer:
    """Perform a workflow that is a part of another message, on behalf of its sender; raise ``forbidden``."""
    declaration = DECLARATIONS[type(message)]
    assert declaration.is_workflow, "a part of one transaction is asked for inside that transaction"
    authorize_part(principal, declaration, message)
    answer: Answer
    if (service := backend.runtime.service) and (performer := service_of(declaration)) not in ("", service):
        answer = backend.ask_service(performer, principal, message)
    else:
        answer = module_function(declaration)(backend, message, principal)
    return answer
