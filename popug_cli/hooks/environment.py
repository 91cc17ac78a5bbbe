"""On what terms a hook is given an event: what is in its environment, and how long the event is its own."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import Settings

PASSED_ON = frozenset({
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
})  # fmt: skip
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
LEASE_MARGIN_SECONDS = 15


def environment(home: Home, event: Mapping[str, Any]) -> dict[str, str]:
    """All that a hook has in its environment: little of ours, no token, and what the event is."""
    type_ = str(event.get("type", ""))
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH} | passed | {
        "POPUG_HOME": str(home.root),
        "POPUG_EVENT": type_.split(".")[-2] if type_.count(".") > 1 else type_,
        "POPUG_EVENT_TYPE": type_,
        "POPUG_EVENT_ID": str(event.get("id", "")),
    }  # fmt: skip


def lease_of(settings: Settings) -> timedelta:
    """How long an event is one process's to give to a hook."""
    return timedelta(seconds=settings.number("hooks.timeout_seconds") + LEASE_MARGIN_SECONDS)
