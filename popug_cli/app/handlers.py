"""Messages whose answer or effect needs several modules: which function of ``app`` performs each."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import (
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
    ExplainBalance,
    ExplainIncome,
    ExplainTask,
    Restore,
    SetSetting,
    ShowPermissions,
    ShowSettings,
    ShowTask,
    VerifyLedger,
)
from popug_cli.messages.hooks import ListHooks, RetryHook, RunHooks, TryHook
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import Principal
from popug_cli.messages.scheduler import RunDue, ShowSchedule
from popug_cli.messages.today import ShowToday

ComposedHandler = Callable[[Any, Any, Principal], Any]

HANDLER_MODULES: dict[type[Message[Any]], str] = {
    BackUp: "workflows.backup",
    CheckHealth: "views.health",
    DropDeadLetter: "workflows.dead_letters",
    ExplainBalance: "explain",
    ExplainIncome: "explain",
    ExplainTask: "explain",
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
    TraceTask: "views.trace",
    CloseDay: "workflows.close_day",
    RunDue: "workflows.scheduled_run",
    ShowSchedule: "workflows.scheduled_run",
    SendMail: "workflows.send_mail",
    TryHook: "workflows.hooks",
    SetSetting: "workflows.settings",
    ShowPermissions: "workflows.settings",
    ShowSettings: "workflows.settings",
    ShowTask: "views.task_details",
    ShowToday: "views.today",
    VerifyLedger: "views.health",
}


def find_handler(message: type[Message[Any]], name: str) -> ComposedHandler | None:
    """The function of that name in the file of ``app`` that composes the message; None for all other messages."""
    module = HANDLER_MODULES.get(message)
    if module is None:
        return None
    handler: ComposedHandler = getattr(import_module(f"popug_cli.app.{module}"), name)
    return handler
