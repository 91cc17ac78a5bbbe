"""The home: the one directory that holds a company."""

import os
from dataclasses import dataclass
from pathlib import Path

OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600


@dataclass(frozen=True, slots=True)
class Home:
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
    def config(self) -> Path:
        """The file of settings."""
        return self.root / "config.toml"

    def make(self) -> None:
        """Create the directories that are missing, open to their owner only; an empty one is closed to others."""
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.chmod(OWNER_ONLY_DIRECTORY)
        for directory in (self.root, self.keys, self.maildir, self.backups):
            directory.mkdir(mode=OWNER_ONLY_DIRECTORY, parents=True, exist_ok=True)


def locate(chosen: Path | None) -> Home:
    """The home that was chosen, else ``POPUG_HOME``, else the platform's user data directory."""
    if chosen is None and os.environ.get("POPUG_HOME"):
        chosen = Path(os.environ["POPUG_HOME"])
    if chosen is None:
        from platformdirs import user_data_path

        chosen = user_data_path("popug", appauthor=False)
    return Home(Path(os.path.abspath(chosen.expanduser())))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file for its owner only, whole or not at all (a synced temporary beside it, then a rename)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
