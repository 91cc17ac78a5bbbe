"""Systemd units that serve a company: a sandboxed service, and a socket for a group."""

import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popug_cli.cli.install.schedule_units import program_of, quote_for_unit
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home, socket_url

DEFAULT_SOCKET = Path("/run/popug/popug.sock")
DEFAULT_GROUP = "popug"
UNIT_DIRECTORY = Path("/etc/systemd/system")
HIDDEN_DIRECTORIES = (Path("/home"), Path("/root"), Path("/run/user"))
STOP_TIMEOUT_SECONDS = 20
SANDBOX_OPTIONS = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A service and a socket for the system's systemd; ``files`` maps names to contents."""

    files: dict[str, str]
    user: str
    group: str
    socket: Path

    def texts(self) -> Iterator[str]:
        """Yield the texts to install."""
        for name, content in self.files.items():
            yield f"# {UNIT_DIRECTORY / name}\n{content}"

    def hints(self) -> Iterator[str]:
        """Yield the steps that are left to the operator."""
        yield f"Create both files and the group: groupadd --force {self.group}"
        yield f"Give users access: usermod -aG {self.group} NAME"
        yield "systemctl daemon-reload && systemctl enable --now popug.socket popug.service"
        yield f"Users set POPUG_SERVER={socket_url(self.socket)}, then `popug login NAME`."

    def answer(self) -> dict[str, Any]:
        """Return the answer for ``--json``."""
        return {
            "kind": "systemd",
            "folder": str(UNIT_DIRECTORY),
            "files": self.files,
            "user": self.user,
            "group": self.group,
            "server": socket_url(self.socket),
        }


def plan(home: Home, socket: Path, group: str) -> ServePlan:
    """Return the units for a home, run by its owner.

    Raises ``usage`` for a relative socket path, a group name with other characters than letters, digits, ``-`` and
    ``_``, and a home whose path has unprintable characters.
    """
    if not socket.is_absolute() or not group.isascii() or not group.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput(
            "usage", "A unit needs a full path and the name of a group.", hint=f"--socket {DEFAULT_SOCKET}"
        )
    user = _service_user(home)
    command = " ".join(quote_for_unit(word) for word in [*program_of(home), "serve", "--scheduler"])
    service_unit = (
        "[Unit]\nDescription=Serve a company of popug\nRequires=popug.socket\nAfter=popug.socket network.target\n\n"
        f"[Service]\nType=notify\nExecStart={command}\nUser={user}\n"
        f"Restart=on-failure\nRestartSec=2\nTimeoutStopSec={STOP_TIMEOUT_SECONDS}\n"
        f"ReadWritePaths={quote_for_unit(str(home.root))}\nProtectHome={_protect_home(home)}\n"
        + "\n".join(SANDBOX_OPTIONS)
        + "\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    path = str(socket).replace("%", "%%")
    socket_unit = (
        "[Unit]\nDescription=Socket of a company of popug\n\n"
        f"[Socket]\nListenStream={path}\nSocketUser={user}\nSocketGroup={group}\nSocketMode=0660\n"
        "DirectoryMode=0755\nBacklog=1024\n\n"
        "[Install]\nWantedBy=sockets.target\n"
    )
    return ServePlan({"popug.service": service_unit, "popug.socket": socket_unit}, user, group, socket)


def _service_user(home: Home) -> str:
    """Return the home's owner, by number if the system has no such user; ``popug`` if there is no home yet."""
    status = home.root.stat() if home.root.exists() else None
    try:
        return pwd.getpwuid(status.st_uid).pw_name if status else DEFAULT_GROUP
    except KeyError:
        return str(status.st_uid) if status else DEFAULT_GROUP


def _protect_home(home: Home) -> str:
    """Return the value of ProtectHome: a company in one of the directories that it would hide must stay visible."""
    return "read-only" if any(home.root.is_relative_to(folder) for folder in HIDDEN_DIRECTORIES) else "yes"
