"""Find the function that performs a message: in its module, or a composed one in ``app``.

A message has a composed handler if it needs several modules or the home's files. Such a handler asks the modules by
messages (``asking.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from popug_cli.bus.context import Context, PasswordWork
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import DECLARATIONS, Declaration, Message
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import (
    DescribeTopics,
    DropDeadLetter,
    ListDeadLetters,
    ReplayEvents,
    RetryDeadLetters,
    ShowBusStatus,
    ShowSchemas,
    TraceTask,
)
from popug_cli.messages.company import (
    BackUp,
    CheckHealth,
    CopyDatabase,
    ExplainTask,
    MigrateDatabase,
    Restore,
    SetSetting,
    ShowPermissions,
    ShowSettings,
    ShowTask,
    VerifyLedger,
)
from popug_cli.messages.hooks import ListHooks, RetryHook, RunHooks, TryHook
from popug_cli.messages.internal.bus import TraceEvents
from popug_cli.messages.scheduler import RunDue, ShowSchedule
from popug_cli.messages.today import ShowToday

# Paths below ``popug_cli.app`` of the composed handlers.
HANDLER_MODULES: dict[type[Message[Any]], str] = {
    BackUp: "workflows.backup",
    CheckHealth: "views.health",
    CopyDatabase: "workflows.copy_database",
    MigrateDatabase: "workflows.migrate_database",
    DescribeTopics: "views.events",
    DropDeadLetter: "workflows.dead_letters",
    ExplainTask: "views.explain_task",
    GetAnalytics: "views.analytics",
    ListDeadLetters: "views.events",
    ListHooks: "workflows.hooks",
    ReplayEvents: "workflows.replay",
    Restore: "workflows.restore",
    RetryDeadLetters: "workflows.dead_letters",
    RetryHook: "workflows.hooks",
    RunHooks: "workflows.hooks",
    ShowBusStatus: "views.events",
    ShowSchemas: "views.events",
    TraceEvents: "views.trace",
    TraceTask: "views.trace",
    CloseDay: "workflows.close_day",
    RunDue: "workflows.scheduled_run",
    ShowSchedule: "workflows.scheduled_run",
    TryHook: "workflows.hooks",
    SetSetting: "workflows.settings",
    ShowPermissions: "workflows.settings",
    ShowSettings: "workflows.settings",
    ShowTask: "views.task_details",
    ShowToday: "views.today",
    VerifyLedger: "views.health",
}

# The services of a cluster that perform composed messages; each service performs all others for its own part.
SERVICES_OF_COMPOSED: dict[type[Message[Any]], str] = {
    CloseDay: "billing",
    GetAnalytics: "analytics",
    ReplayEvents: "analytics",
    RunDue: "billing",
    ShowSchedule: "billing",
    VerifyLedger: "billing",
}


@dataclass(frozen=True, slots=True)
class MessageHandler:
    """The function that performs a message.

    A module's function takes ``(message, context)``, a composed one and a workflow ``(backend, message, principal)``.
    ``preparation`` begins the slow work on a password: it reads from a snapshot, and returns a function that does the
    work when the snapshot is closed.
    """

    declaration: Declaration
    function: Callable[..., Any]
    preparation: Callable[[Any, Context], Callable[[], PasswordWork]] | None = None
    takes_backend: bool = False


def find(message: type[Message[Any]]) -> MessageHandler:
    """Return the handler of a message: the function of its name, in ``app`` or in its module."""
    declaration = DECLARATIONS[message]
    if module := HANDLER_MODULES.get(message):
        function = getattr(import_module(f"popug_cli.app.{module}"), declaration.name)
        return MessageHandler(declaration, function, takes_backend=True)
    function = module_function(declaration)
    return MessageHandler(declaration, function, _preparation_of(declaration), takes_backend=declaration.is_workflow)


def module_function(declaration: Declaration) -> Callable[..., Any]:
    """Return the function of the message's name in the module that performs it."""
    function: Callable[..., Any] = getattr(import_module(f"popug_cli.{declaration.handler}"), declaration.name)
    return function


def service_function(declaration: Declaration) -> Callable[..., Any] | None:
    """Return the function that performs a part only if another service asks for it, or None.

    It takes ``(backend, message, principal)``, and ``wait_for_identity``, which returns when all that identity has
    acknowledged is consumed.
    """
    module = import_module(f"popug_cli.{declaration.handler}")
    function: Callable[..., Any] | None = getattr(module, f"{declaration.name}_of_service", None)
    return function


def service_of(declaration: Declaration) -> str:
    """Return the service of a cluster that performs a message, or an empty text if each service performs it.

    Each service performs the messages of the bus, and composed ones that are not in ``SERVICES_OF_COMPOSED``.
    """
    if declaration.message in HANDLER_MODULES:
        return SERVICES_OF_COMPOSED.get(declaration.message, "")
    module = declaration.handler.partition(".")[0]
    return "" if module == "bus" else module


def _preparation_of(declaration: Declaration) -> Callable[[Any, Context], Callable[[], PasswordWork]] | None:
    if "password" not in declaration.message.__struct_fields__:
        return None
    return getattr(import_module(f"popug_cli.{declaration.module}.prehash"), declaration.name, None)
