"""Open the server's sockets: Unix sockets and TCP addresses."""

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from popug_cli.kernel import serve_lock
from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.kernel.home import Home, socket_url
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY, OWNER_ONLY_FILE, is_private_directory

BACKLOG = 1024
GROUP_SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `path` is its file, which is removed at the end; None if there is none to remove."""

    socket: socket.socket
    url: str
    path: Path | None = None
    inode: int = 0

    def remove(self) -> None:
        """Remove the file if it still belongs to this socket."""
        with suppress(OSError):
            if self.path is not None and self.path.lstat().st_ino == self.inode:
                self.path.unlink()


@contextmanager
def exclusive_lock(home: Home) -> Iterator[None]:
    """Lock the home against other servers.

    Raise ``server_unavailable`` if another server holds the lock, ``database_busy`` during a migration, ``read_only``
    if the lock's path is not a file.
    """
    with serve_lock.opened(home) as descriptor:
        if not serve_lock.take(descriptor, fcntl.LOCK_EX):
            raise _home_in_use(home, descriptor)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


def listen_in_home(home: Home) -> Listener:
    """Listen on the home's socket, which only its owner can use.

    Raise ``insecure_directory``, or an error of ``listen_at``.
    """
    path = home.socket
    if path.parent != home.root:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=OWNER_ONLY_DIRECTORY)
        if not is_private_directory(path.parent):
            raise InvalidInput(
                "insecure_directory",
                f"Other users can write to {path.parent}, so no socket is created there.",
                hint="Set XDG_RUNTIME_DIR to a directory of your own.",
            )
    return listen_at(path, OWNER_ONLY_FILE, None)


def listen_at(path: Path, mode: int, group: str | None) -> Listener:
    """Listen on a Unix socket at `path`; replace a stale socket there.

    Raise ``usage`` if there is another file, or the path or group cannot be used; ``server_unavailable`` if a process
    listens there.
    """
    _remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous_umask = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        raise InvalidInput(
            "usage", f"{path} cannot be listened on: {error.strerror or error}.", hint="Name another --socket."
        ) from error
    finally:
        os.umask(previous_umask)
    if group is not None:
        _set_group(path, group)
    path.chmod(mode)
    listener.listen(BACKLOG)
    return Listener(listener, socket_url(path), path, path.lstat().st_ino)


def listen_on(host: str, port: int, *, secure: bool) -> Listener:
    """Listen on a TCP address; raise ``server_unavailable``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, so that asyncio sets TCP_NODELAY
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        listener.close()
        raise Unavailable(
            "server_unavailable", f"{host}:{port} cannot be listened on: {reason}.", hint="Choose another --listen."
        ) from error
    listener.listen(BACKLOG)
    url_host = f"[{host}]" if ":" in host else host
    return Listener(listener, f"{'https' if secure else 'http'}://{url_host}:{listener.getsockname()[1]}")


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket file of a server that does not run any more."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise InvalidInput("usage", f"{path} exists and is not a socket.", hint="Name another --socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise _socket_in_use(path) from error
    raise _socket_in_use(path)


def _set_group(path: Path, group: str) -> None:
    try:
        shutil.chown(path, group=group)
    except (LookupError, PermissionError) as error:
        path.unlink()
        reason = "there is no such group" if isinstance(error, LookupError) else "you are not a member"
        raise InvalidInput(
            "usage", f"The socket cannot be given to the group {group}: {reason}.", hint="Name another --group."
        ) from error


def _socket_in_use(path: Path) -> Unavailable:
    return Unavailable(
        "server_unavailable", f"Another process already listens on {path}.", hint="Name another --socket."
    )


def _home_in_use(home: Home, descriptor: int) -> Unavailable:
    if serve_lock.take(descriptor, fcntl.LOCK_SH):  # only a migration shares the lock
        sentence = f"Another process is upgrading the database of {home.root}."
        return Unavailable("database_busy", sentence, hint="Try again in a moment.")
    process = serve_lock.server_of(descriptor)
    process_note = f" (process {process})" if process is not None else ""
    return Unavailable(
        "server_unavailable",
        f"Another popug server already serves {home.root}{process_note}.",
        hint="Stop it first, or use it: commands on this home connect to it automatically.",
        details={"process": process},
    )
