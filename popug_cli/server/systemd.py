"""systemd integration: socket activation (sd_listen_fds) and readiness notification (sd_notify)."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from popug_cli.kernel.home import socket_url
from popug_cli.server.sockets import Listener

FIRST_PASSED_FD = 3


def passes_sockets() -> bool:
    """Return whether systemd has opened sockets for this process."""
    return os.environ.get("LISTEN_PID", "") == str(os.getpid())


def passed_sockets() -> list[Listener]:
    """Return the Unix sockets that systemd opened for this process (``LISTEN_FDS``); systemd owns their files."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    passed = [socket.socket(fileno=number) for number in range(FIRST_PASSED_FD, FIRST_PASSED_FD + count)]
    return [
        Listener(passed_socket, _url(passed_socket.getsockname()))
        for passed_socket in passed
        if passed_socket.family == socket.AF_UNIX
    ]


def notify(state: str) -> None:
    """Notify the service manager of `state`, if there is one (``NOTIFY_SOCKET``)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def _url(name: str | bytes) -> str:
    """Return the URL of a socket. An abstract socket of Linux has no file, so clients cannot use its name."""
    return socket_url(Path(name)) if isinstance(name, str) and name.startswith("/") else f"unix:{name!r}"
