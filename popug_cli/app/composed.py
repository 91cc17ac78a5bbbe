"""Messages whose answer or effect needs several modules: which function of ``app`` performs each."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from popug_cli.app.local import LocalBackend

ComposedHandler = Callable[["LocalBackend", Any, Principal], Any]

HANDLER_MODULES: dict[type[Message[Any]], str] = {
    BackUp: "backup",
    CheckHealth: "health",
    DropDeadLetter: "events",
    ExplainBalance: "explain",
    ExplainIncome: "explain",
    ExplainTask: "explain",
    GetAnalytics: "analytics",
    ListDeadLetters: "events",
    ListHooks: "hooks",
    ReplayEvents: "replay",
    Restore: "restore",
    RetryDeadLetters: "events",
    RetryHook: "hooks",
    RunHooks: "hooks",
    ShowBusStatus: "events",
    ShowSchemas: "events",
    TraceTask: "trace",
    CloseDay: "close_day",
    RunDue: "scheduling",
    ShowSchedule: "scheduling",
    SendMail: "mail_run",
    TryHook: "hooks",
    SetSetting: "settings",
    ShowPermissions: "settings",
    ShowSettings: "settings",
    ShowTask: "task_details",
    ShowToday: "today",
    VerifyLedger: "health",
}


def find_handler(message: type[Message[Any]], name: str) -> ComposedHandler | None:
    """The function of that name in the file of ``app`` that composes the message; None for all other messages."""
    module = HANDLER_MODULES.get(message)
    if module is None:
        return None
    handler: ComposedHandler = getattr(import_module(f"popug_cli.app.{module}"), name)
    return handler
