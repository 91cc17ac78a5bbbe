"""What has systemd serve a company: a service that can reach little but its home, and a socket for a group."""

import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popug_cli.cli.install.schedule_units import program_of, unit_word
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home, socket_url

SOCKET = Path("/run/popug/popug.sock")
GROUP = "popug"
FOLDER = Path("/etc/systemd/system")
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
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
    """A service and a socket of the system's systemd; ``files`` are their contents by name."""

    files: dict[str, str]
    user: str
    group: str
    socket: Path

    def texts(self) -> Iterator[str]:
        """What is installed."""
        for name, content in self.files.items():
            yield f"# {FOLDER / name}\n{content}"

    def hints(self) -> Iterator[str]:
        """What else is to be done."""
        yield f"Put both files there and make the group: groupadd --force {self.group}"
        yield f"Let people in: usermod -aG {self.group} NAME"
        yield "systemctl daemon-reload && systemctl enable --now popug.socket popug.service"
        yield f"People set POPUG_SERVER={socket_url(self.socket)}, then `popug login NAME`."

    def answer(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "kind": "systemd",
            "folder": str(FOLDER),
            "files": self.files,
            "user": self.user,
            "group": self.group,
            "server": socket_url(self.socket),
        }


def plan(home: Home, socket: Path, group: str) -> ServePlan:
    """The units for a home, run by the user that owns it; raises ``usage`` for names that no unit can hold."""
    if not socket.is_absolute() or not group.isascii() or not group.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput("usage", "A unit needs a full path and the name of a group.", hint=f"--socket {SOCKET}")
    user = _owner(home)
    command = " ".join(unit_word(word) for word in [*program_of(home), "serve", "--scheduler"])
    service = (
        "[Unit]\nDescription=Serve a company of popug\nRequires=popug.socket\nAfter=popug.socket network.target\n\n"
        f"[Service]\nType=notify\nExecStart={command}\nUser={user}\n"
        f"Restart=on-failure\nRestartSec=2\nTimeoutStopSec={STOP_TIMEOUT_SECONDS}\n"
        f"ReadWritePaths={unit_word(str(home.root))}\nProtectHome={_protect_home(home)}\n"
        + "\n".join(SANDBOX_OPTIONS)
        + "\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    path = str(socket).replace("%", "%%")
    listening = (
        "[Unit]\nDescription=Where a company of popug is served\n\n"
        f"[Socket]\nListenStream={path}\nSocketUser={user}\nSocketGroup={group}\nSocketMode=0660\n"
        "DirectoryMode=0755\nBacklog=1024\n\n"
        "[Install]\nWantedBy=sockets.target\n"
    )
    return ServePlan({"popug.service": service, "popug.socket": listening}, user, group, socket)


def _owner(home: Home) -> str:
    info = home.root.stat() if home.root.exists() else None
    try:
        return pwd.getpwuid(info.st_uid).pw_name if info else GROUP
    except KeyError:
        return str(info.st_uid) if info else GROUP


def _protect_home(home: Home) -> str:
    """A home of popug that lies in somebody's home directory has to stay visible."""
    return "read-only" if any(home.root.is_relative_to(folder) for folder in HOMES) else "yes"
