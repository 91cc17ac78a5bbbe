"""Find the server to use: the one at a given URL, or the one that serves the home."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from popug_cli.client.remote_backend import RemoteBackend


def connect_to_url(url: str, warn: Callable[[str], None], progress: Progress) -> "RemoteBackend":
    """Return a backend for the server at `url`, not connected yet; raise ``invalid_server``."""
    from popug_cli.client.address import parse
    from popug_cli.client.remote_backend import RemoteBackend

    return RemoteBackend(parse(url), warn=warn, progress=progress)


def find_local_server(home: Home, warn: Callable[[str], None], progress: Progress) -> "RemoteBackend | None":
    """Return a backend for the server that listens on the home's socket, or None if there is none."""
    path = home.socket
    if not _is_trusted(path, home.root):
        return None
    from popug_cli.client.address import Address
    from popug_cli.client.http import connect
    from popug_cli.client.remote_backend import RemoteBackend

    address = Address(path=os.fspath(path))
    try:
        opened_socket = connect(address)
    except TimeoutError:  # a server exists; the first request will report what is wrong with it
        return RemoteBackend(address, warn=warn, progress=progress)
    except OSError:
        return None
    return RemoteBackend(address, warn=warn, progress=progress, opened=opened_socket)


def _is_trusted(socket: "Path", root: "Path") -> bool:
    """Return whether the socket exists and belongs to this user or the home's owner.

    A socket of another user must not receive passwords.
    """
    try:
        return socket.stat().st_uid in {os.getuid(), root.stat().st_uid}
    except OSError:
        return False
