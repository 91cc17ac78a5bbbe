"""The home: the one directory that holds a company."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from popug_cli.kernel import disk_errors
from popug_cli.platform import files
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY, replace_file

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
            files.make_directory(directory)


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
        raise disk_errors.in_doubt(disk_errors.write_error(path, error)) from error
