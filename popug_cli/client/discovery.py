"""Find the server to use: the one at a given URL, or the one that serves the home."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.platform.accounts import SUPERUSER, describe_account
from popug_cli.platform.files import is_private_directory

if TYPE_CHECKING:
    from popug_cli.client.remote_backend import RemoteBackend


def connect_to_url(url: str, warn: Callable[[str], None], progress: Progress) -> "RemoteBackend":
    """Return a backend for the server at `url`, not connected yet; raise ``invalid_server``."""
    from popug_cli.client.address import parse
    from popug_cli.client.remote_backend import RemoteBackend

    return RemoteBackend(parse(url), warn=warn, progress=progress)


def find_local_server(
    home: Home,
    warn: Callable[[str], None],
    progress: Progress,
    on_distrust: Callable[[str], None] = lambda sentence: None,
) -> "RemoteBackend | None":
    """Return a backend for the server that listens on the home's socket, or None if there is none.

    A process of another account must not receive passwords. Its socket is not used, and ``on_distrust`` names it.
    """
    path = home.socket
    try:
        socket_status, home_status = path.lstat(), home.root.stat()
    except OSError:  # there is no server, or it has just ended
        return None
    from popug_cli.client.address import Address
    from popug_cli.client.http import UntrustedPeerError, connect
    from popug_cli.client.remote_backend import RemoteBackend

    if (reason := _distrust_of(home, socket_status, home_status)) is not None:
        on_distrust(f"The socket {path} is not used: {reason}.")
        return None
    trusted_user_ids = frozenset({SUPERUSER, os.geteuid(), home_status.st_uid})
    address = Address(path=os.fspath(path), trusted_user_ids=trusted_user_ids)
    try:
        opened_socket = connect(address)
    except UntrustedPeerError as error:
        on_distrust(f"The socket {path} is not used: {error.strerror}.")
        return None
    except TimeoutError:  # a server exists; the first request will report what is wrong with it
        return RemoteBackend(address, warn=warn, progress=progress)
    except OSError:
        return None
    return RemoteBackend(address, warn=warn, progress=progress, opened=opened_socket)


def _distrust_of(home: Home, socket_status: os.stat_result, home_status: os.stat_result) -> str | None:
    """Return why a socket cannot be that of the home's server, or None.

    A directory outside the home must be private to this account. In the home, no other account may write.
    """
    if socket_status.st_uid not in {os.geteuid(), home_status.st_uid}:
        return f"it belongs to {describe_account(socket_status.st_uid)}"
    directory = home.socket.parent
    is_private = not home_status.st_mode & 0o022 if directory == home.root else is_private_directory(directory)
    return None if is_private else f"other accounts can write to {directory}"
