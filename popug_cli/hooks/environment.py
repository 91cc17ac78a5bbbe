"""Environment variables and lease time of a hook run."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import Settings

INHERITED_VARIABLES = frozenset({
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
})  # fmt: skip
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
LEASE_MARGIN_SECONDS = 15


def environment(home: Home, event: Mapping[str, Any]) -> dict[str, str]:
    """Return the complete environment of a hook: a few inherited variables, the home, the event's name, type and id.

    ``INHERITED_VARIABLES`` and ``LC_*`` are inherited, and nothing else, so that a hook receives no token.
    """
    event_type = str(event.get("type", ""))
    inherited = {
        name: value for name, value in os.environ.items() if name in INHERITED_VARIABLES or name.startswith("LC_")
    }
    return {"PATH": DEFAULT_PATH} | inherited | {
        "POPUG_HOME": str(home.root),
        "POPUG_EVENT": event_type.split(".")[-2] if event_type.count(".") > 1 else event_type,
        "POPUG_EVENT_TYPE": event_type,
        "POPUG_EVENT_ID": str(event.get("id", "")),
    }  # fmt: skip


def lease_duration(settings: Settings) -> timedelta:
    """Return how long an event is leased to one hook run: the time limit of a hook, and a margin."""
    return timedelta(seconds=settings.number("hooks.timeout_seconds") + LEASE_MARGIN_SECONDS)
