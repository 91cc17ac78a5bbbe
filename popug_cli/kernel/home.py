"""The home: the one directory that holds a company."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import msgspec

from popug_cli.kernel import disk

OWNER_ONLY_DIRECTORY = disk.OWNER_ONLY_DIRECTORY
OWNER_ONLY_FILE = 0o600
MAX_SOCKET_PATH_BYTES = 100


class Home(msgspec.Struct, frozen=True):
    """Where each part of a company lies on disk."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "popug.db"

    @property
    def keys(self) -> Path:
        """The directory of signing keys."""
        return self.root / "keys"

    @property
    def maildir(self) -> Path:
        """The Maildir of the embedded mail transport."""
        return self.root / "mail"

    @property
    def backups(self) -> Path:
        """The directory of backups."""
        return self.root / "backups"

    @property
    def hooks(self) -> Path:
        """The directory of the operator's own programs that hear of events."""
        return self.root / "hooks"

    @property
    def config(self) -> Path:
        """The file of settings."""
        return self.root / "config.toml"

    @property
    def serve_lock(self) -> Path:
        """The file that a server holds a lock on, as long as it serves the home."""
        return self.root / "serve.lock"

    @property
    def socket(self) -> Path:
        """Where a server of the home listens: in it, or in the user's runtime directory where that path is too long."""
        inside = self.root / "popug.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
            return inside
        from hashlib import sha256

        return runtime_directory() / f"popug-{sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:16]}.sock"

    def make(self) -> None:
        """Create the directories that are missing, open to their owner only; an empty one is closed to others."""
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.chmod(OWNER_ONLY_DIRECTORY)
        for directory in (self.root, self.keys, self.maildir, self.backups):
            disk.make_directory(directory)


def find_home(chosen: Path | None) -> Home:
    """The home that was chosen, else ``POPUG_HOME``, else the platform's user data directory."""
    if chosen is None and os.environ.get("POPUG_HOME"):
        chosen = Path(os.environ["POPUG_HOME"])
    return Home(Path(os.path.abspath(chosen.expanduser()))) if chosen else default_home()


def default_home() -> Home:
    """The home of whoever chose none: the platform's user data directory."""
    from platformdirs import user_data_path

    return Home(Path(os.path.abspath(user_data_path("popug", appauthor=False))))


def runtime_directory() -> Path:
    """Where sockets of this user lie: ``XDG_RUNTIME_DIR``, else ``/tmp/popug-UID``; it may not be there yet."""
    fallback = Path(f"/tmp/popug-{os.getuid()}")  # noqa: S108 - who makes it or connects in it checks whose it is
    return Path(os.environ.get("XDG_RUNTIME_DIR") or fallback)


def socket_url(path: Path) -> str:
    """What a socket is called as a server's address, whatever characters its path has."""
    return "unix" + path.as_uri().removeprefix("file")


def is_private_directory(directory: Path) -> bool:
    """Whether a directory is there that belongs to this user, and in which nobody else can put anything."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


@contextmanager
def reserve_replacement(path: Path, size_bytes: int = 0) -> Iterator[Callable[[bytes], None]]:
    """Room on the disk for so large a file; what is yielded puts a content in the file's place, whole or not at all.

    The file is its owner's only: a synced temporary beside it, a rename, and that synced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY_FILE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:

            def write(content: bytes) -> None:
                _write_all(file, content)
                temporary.replace(path)
                disk.sync_directory(path.parent)

            if size_bytes:
                _write_all(file, bytes(size_bytes))
            yield write
    finally:
        with suppress(OSError):  # what is left then is hidden, and the next to have this process id takes it over
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file for its owner only, whole or not at all."""
    with reserve_replacement(path) as write:
        write(content)


def _write_all(file: FileIO, content: bytes) -> None:
    """Let a file have this content and keep it; where it had room for that, the disk cannot be too full."""
    file.seek(0)
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    file.truncate()
    os.fsync(file.fileno())


@contextmanager
def replaced_until_error(path: Path, content: bytes) -> Iterator[None]:
    """Write a file like ``replace_file``; where what follows fails, it is again as it was, on a full disk, too.

    Raises ``in_doubt`` where it cannot be put back.
    """
    backup = path.with_name(f".{path.name}.{os.getpid()}.before")
    with suppress(FileNotFoundError):
        os.link(path, backup)
    try:
        replace_file(path, content)
        yield
    except BaseException:
        _restore(backup, path)
        raise
    finally:
        with suppress(OSError):
            backup.unlink(missing_ok=True)


def _restore(backup: Path, path: Path) -> None:
    try:
        if not backup.exists():
            if path.exists():  # where nothing may be written, nothing may be removed that is not there either
                path.unlink(missing_ok=True)
        elif not backup.samefile(path):
            backup.replace(path)
    except OSError as error:
        raise disk.in_doubt(disk.write_error(path, error)) from error
