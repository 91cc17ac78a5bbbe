"""Which server a face talks to: one that it is told, or the one that holds the home."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from popug_cli.client.remote_backend import RemoteBackend


def connect_to_url(url: str, warn: Callable[[str], None], progress: Progress) -> "RemoteBackend":
    """The server of that address; raises ``invalid_server``."""
    from popug_cli.client.address import parse
    from popug_cli.client.remote_backend import RemoteBackend

    return RemoteBackend(parse(url), warn=warn, progress=progress)


def find_local_server(home: Home, warn: Callable[[str], None], progress: Progress) -> "RemoteBackend | None":
    """The server that holds this home, if there is one: somebody listens on its socket."""
    path = home.socket
    if not _is_trusted(path, home.root):
        return None
    from popug_cli.client.address import Address
    from popug_cli.client.http import connect
    from popug_cli.client.remote_backend import RemoteBackend

    address = Address(path=os.fspath(path))
    try:
        opened = connect(address)
    except TimeoutError:  # it is there, and asking will say what is wrong with it
        return RemoteBackend(address, warn=warn, progress=progress)
    except OSError:
        return None
    return RemoteBackend(address, warn=warn, progress=progress, opened=opened)


def _is_trusted(socket: "Path", root: "Path") -> bool:
    """Whether a socket is there that this user or the home's owner has made: nobody else may be told a password."""
    try:
        return socket.stat().st_uid in {os.getuid(), root.stat().st_uid}
    except OSError:
        return False
