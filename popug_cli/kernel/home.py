"""The home: the one directory that holds a company."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from popug_cli.kernel import disk_errors, home_owner
from popug_cli.kernel.errors import InvalidInput
from popug_cli.platform import files
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY, replace_file

MAX_SOCKET_PATH_BYTES = 100


class Home(msgspec.Struct, frozen=True):
    """The paths of a company's files and directories."""

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
        """The directory of hooks: the operator's programs that receive events."""
        return self.root / "hooks"

    @property
    def config(self) -> Path:
        """The file of settings."""
        return self.root / "config.toml"

    @property
    def serve_lock(self) -> Path:
        """The file that a server locks while it serves the home."""
        return self.root / "serve.lock"

    @property
    def socket(self) -> Path:
        """The socket of a server: in the home, or in the user's runtime directory if that path is too long."""
        inside = self.root / "popug.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
            return inside
        from hashlib import sha256

        return runtime_directory() / f"popug-{sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:16]}.sock"

    def make(self) -> None:
        """Create the missing directories, accessible to their owner only; an existing empty home is restricted too.

        Raise ``foreign_owner`` or ``insecure_directory`` for a directory that other accounts own or can write to.
        """
        home_owner.check_place(self.root)
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.chmod(OWNER_ONLY_DIRECTORY)
        files.make_directory(self.root)
        home_owner.check_place(self.root)  # another account may have created it a moment earlier
        for directory in (self.keys, self.maildir, self.backups):
            files.make_directory(directory)


def find_home(chosen: Path | None) -> Home:
    """Return the chosen home, else ``POPUG_HOME``, else ``default_home``; raise ``no_home_directory``."""
    if chosen is None and os.environ.get("POPUG_HOME"):
        chosen = Path(os.environ["POPUG_HOME"])
    return Home(Path(os.path.abspath(chosen.expanduser()))) if chosen else default_home()


def default_home() -> Home:
    """Return the home in the platform's user data directory; raise ``no_home_directory``."""
    from platformdirs import user_data_path

    directory = user_directory(user_data_path)
    if directory is None:
        raise no_home_directory("Name the company's directory with --home DIR or POPUG_HOME.")
    return Home(directory)


def is_default_home(home: Home) -> bool:
    """Return whether a home is the default one; False if this account has no home directory."""
    try:
        return home == default_home()
    except InvalidInput:
        return False


def user_directory(find: Callable[..., Path]) -> Path | None:
    """Return popug's directory according to ``find`` (of platformdirs); None if this account has no home directory."""
    try:
        directory = find("popug", appauthor=False)
    except RuntimeError:
        return None
    return None if str(directory).startswith("~") else Path(os.path.abspath(directory))


def no_home_directory(hint: str = "Set HOME to a directory of this account.") -> InvalidInput:
    """Return the error for an account without HOME and without an entry in /etc/passwd, as in some containers."""
    sentence = "This account has no home directory: HOME is not set, and /etc/passwd does not name one."
    return InvalidInput("no_home_directory", sentence, hint=hint)


def runtime_directory() -> Path:
    """Return the directory of this user's sockets: ``XDG_RUNTIME_DIR``, else ``/tmp/popug-UID``; it may not exist."""
    fallback = Path(f"/tmp/popug-{os.getuid()}")  # noqa: S108 - server and client check its owner
    return Path(os.environ.get("XDG_RUNTIME_DIR") or fallback)


def socket_url(path: Path) -> str:
    """Return the URL of a server's socket; special characters in the path are percent-encoded."""
    return "unix" + path.as_uri().removeprefix("file")


@contextmanager
def replace_restoring_on_error(path: Path, content: bytes) -> Iterator[None]:
    """Replace a file like ``replace_file``; if that or the block raises, restore the old file, even on a full disk.

    A file that did not exist is removed. Raise ``in_doubt`` if the old state cannot be restored.
    """
    target = files.resolve_replaceable(path)
    with files.temporary_copy(target) as backup:
        try:
            replace_file(target, content)
            yield
        except BaseException:
            _restore(backup, target)
            raise


def _restore(backup: Path | None, path: Path) -> None:
    try:
        if backup is not None:
            if not path.exists() or path.read_bytes() != backup.read_bytes():
                files.move_into_place(backup, path)
        elif path.exists():  # on a read-only file system, unlink fails even if there is no file
            path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_errors.in_doubt(disk_errors.write_error(path, error)) from error
