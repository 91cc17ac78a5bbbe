"""Environment variables and lease time of a hook run."""

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
    """Return a hook's whole environment: a few of this process's variables, no token, and the event's id and type."""
    type_ = str(event.get("type", ""))
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH} | passed | {
        "POPUG_HOME": str(home.root),
        "POPUG_EVENT": type_.split(".")[-2] if type_.count(".") > 1 else type_,
        "POPUG_EVENT_TYPE": type_,
        "POPUG_EVENT_ID": str(event.get("id", "")),
    }  # fmt: skip


def lease_of(settings: Settings) -> timedelta:
    """Return how long an event is leased to one process for a hook run."""
    return timedelta(seconds=settings.number("hooks.timeout_seconds") + LEASE_MARGIN_SECONDS)
