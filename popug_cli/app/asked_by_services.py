"""Perform a part of a message that another service of a cluster asks for."""

from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from popug_cli.app.asking import CompanySnapshot, perform_part
from popug_cli.app.handlers import service_function
from popug_cli.bus.service.coverage import received_logs
from popug_cli.identity.policy import authorize_asked
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.base import DECLARATIONS, Declaration, Message
from popug_cli.messages.internal.identity import GetLogHead
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

MAX_IDENTITY_SECONDS = 30.0
POLL_SECONDS = 0.1
Answer = TypeVar("Answer")


def perform_for_service(backend: "LocalBackend", principal: Principal, message: Message[Answer]) -> Answer:
    """Perform a part that another service asks for, on behalf of the sender of the whole message.

    A command is a transaction of its own, after which the consumers run. Like the whole message, a part waits for what
    its sender has seen, ``backend.reads.positions``; ``backend.reads.shown`` are then the positions of its answer.
    Raise an error of the sender's token, ``forbidden``, ``behind``, or the message's errors.
    """
    declaration = DECLARATIONS[type(message)]
    backend.reads.begin()
    with backend.runtime.reading(principal) as context:
        authorize_asked(principal, declaration, message, context)
    answer = _perform(backend, principal, message, declaration)
    backend.reads.finish(backend.runtime, is_command=declaration.is_command)
    return answer


def _perform(
    backend: "LocalBackend", principal: Principal, message: Message[Answer], declaration: Declaration
) -> Answer:
    backend.reads.wait_for(backend, message, principal)
    if declaration.is_workflow:
        return perform_part(backend, principal, message)
    if function := service_function(declaration):
        answer: Answer = function(
            backend, message, principal, wait_for_identity=partial(wait_for_identity, backend, principal)
        )
        return answer
    if declaration.is_command:
        return backend.write_and_catch_up(message, principal, lambda context: CompanySnapshot(context).ask(message))
    with backend.asking(principal) as company:
        return company.ask(message)


def wait_for_identity(backend: "LocalBackend", principal: Principal) -> None:
    """Wait until this service has consumed all that identity has acknowledged before the call.

    Raise ``behind`` if that takes more than ``MAX_IDENTITY_SECONDS``, or an error of asking identity for its head.
    """
    head = backend.ask_service("identity", principal, GetLogHead()).position
    deadline = monotonic() + MAX_IDENTITY_SECONDS
    while True:
        backend.catch_up(completely=True)
        with backend.runtime.reading(principal) as context:
            consumed = received_logs(context, context.service, backend.consumers)["identity"].consumed
        if consumed >= head:
            return
        if monotonic() > deadline:
            raise _identity_missing(backend.runtime.service)
        backend.while_waiting()
        sleep(POLL_SECONDS)


def _identity_missing(service: str) -> Unavailable:
    return Unavailable(
        "behind",
        f"After {MAX_IDENTITY_SECONDS:.0f} seconds, {service} has not received all events of identity (behind).",
        hint="Nothing was changed. See `popug events status`, and try again in a moment.",
        details={"service": service},
    )
