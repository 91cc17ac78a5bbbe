"""Migrations: numbered, each in one transaction with its record, after a backup; a newer database is refused."""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from popug_cli.kernel.disk import sync_names
from popug_cli.kernel.errors import IntegrityFault
from popug_cli.kernel.home import OWNER_ONLY_FILE, Home
from popug_cli.storage.faults import corrupt, translated

NEWEST = "0010"
SCRIPTS = Path(__file__).with_name("migrations")


def version_of(database: Path) -> str | None:
    """The number of the last migration that a file had; None for an empty one. One cheap look, no lock taken."""
    if not database.is_file():
        raise corrupt(database, "it is no file")
    with translated(database), closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            if tables:
                raise corrupt(database, "it holds other tables")
            return None
        row = file.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def check_version(home: Home) -> None:
    """Bring an older database up to date; raises ``newer_database`` for one from a newer program."""
    found = version_of(home.database)
    if found == NEWEST:
        return
    if found is not None and not (found.isdecimal() and len(found) == len(NEWEST)):
        raise corrupt(home.database, f"it says of itself that its version is {found!r}")
    if found is not None and found > NEWEST:
        raise IntegrityFault(
            "newer_database",
            f"{home.database} was written by a newer popug (its version is {found}, this program knows {NEWEST}).",
            hint="Install the newer popug; nothing was touched.",
            details={"found": found, "known": NEWEST},
        )
    if found is None and any(home.keys.glob("*.pem")):
        raise corrupt(home.database, "it is empty, but there are keys of a company")
    if found is not None:
        _back_up(home, found)
    migrate(home.database)


def create(home: Home) -> None:
    """Make the database with every table, or bring it up to date."""
    with translated(home.database):
        home.make()
        home.database.touch(mode=OWNER_ONLY_FILE, exist_ok=True)
        sync_names(home.root)
    check_version(home)


def migrate(database: Path, target: str = "head") -> None:
    """Apply the migrations that are missing, each in a transaction of its own."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["database"] = database
    with translated(database):
        command.upgrade(config, target)


def _back_up(home: Home, found: str) -> None:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = home.backups / f"before-migration-from-{found}-{moment}.db"
    partial = copy.with_name(f".{copy.name}.{os.getpid()}")
    home.backups.mkdir(mode=0o700, exist_ok=True)
    partial.touch(mode=OWNER_ONLY_FILE)
    with closing(sqlite3.connect(home.database)) as source, closing(sqlite3.connect(partial)) as target:
        source.backup(target)
    shutil.copymode(home.database, partial)
    partial.replace(copy)
    sync_names(home.backups)
