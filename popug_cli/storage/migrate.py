"""Migrations: numbered, each in one transaction with its version record, after a backup; refuse a newer database.

Functions that open the database raise the errors of ``storage.errors``.
"""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from popug_cli.kernel import serve_lock
from popug_cli.kernel.errors import IntegrityViolation, PopugError
from popug_cli.kernel.home import Home
from popug_cli.platform import file_id, files
from popug_cli.platform.files import OWNER_ONLY_FILE, sync, sync_directory
from popug_cli.platform.temporary import temporary_file
from popug_cli.storage import write_lock
from popug_cli.storage.errors import corrupt, translate_errors

NEWEST = "0019"
SCRIPTS = Path(__file__).with_name("migrations")


def version_of(database: Path) -> str | None:
    """Return the number of the last migration of a database, or None if it has none; raise ``corrupt_database``."""
    if not database.is_file():
        raise corrupt(database, "it is not a file")
    with (
        translate_errors(database),
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection,
    ):
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            if tables:
                raise corrupt(database, "it contains tables of another program")
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def migrate_if_older(home: Home) -> None:
    """Create the tables of an empty database, or migrate an older one.

    Until the migration ends, no server starts and no other popug process writes. A process that waited for another
    one's migration finds it done. Raise ``newer_database`` if a newer popug wrote the database,
    ``server_unavailable`` if a server holds the home, or ``corrupt_database``.
    """
    database = home.database
    if not _is_older(home):
        return
    with translate_errors(database), write_lock.acquire(database, file_id.file_id(database)):
        if _is_older(home):
            _upgrade(home)


def _is_older(home: Home) -> bool:
    """Return whether the database is empty or lacks migrations; raise ``newer_database`` or ``corrupt_database``."""
    version = version_of(home.database)
    if version == NEWEST:
        return False
    if version is not None and not (version.isdecimal() and len(version) == len(NEWEST)):
        raise corrupt(home.database, f"its recorded version is {version!r}")
    if version is not None and version > NEWEST:
        raise IntegrityViolation(
            "newer_database",
            f"{home.database} was written by a newer popug (its version is {version}, this program knows {NEWEST}).",
            hint="Install the newer popug; nothing was changed.",
            details={"found": version, "known": NEWEST},
        )
    if version is None and any(home.keys.glob("*.pem")):
        raise corrupt(home.database, "it is empty, but the home has a company's keys")
    return True


def _upgrade(home: Home) -> None:
    version = version_of(home.database)
    if version is None:  # a server cannot hold a home that has no company yet
        migrate(home.database)
        return
    with serve_lock.hold_for_migration(home):
        copy = _back_up(home, version)
        try:
            migrate(home.database)
        except Exception as error:
            _mention_copy(error, copy)
            raise
        timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        copy.replace(copy.with_stem(f"{copy.stem}-{timestamp}"))
        sync_directory(home.backups)


def _mention_copy(error: Exception, copy: Path) -> None:
    """Add the path of the database's copy to the hint of an error, or to its notes."""
    sentence = f"The database as it was is in {copy}, which the next attempt replaces."
    if isinstance(error, PopugError):
        error.hint = f"{error.hint} {sentence}".strip()
    else:
        error.add_note(sentence)


def migrated_since(database: Path, version: str) -> IntegrityViolation:
    """Return the error for a write to a database that a newer popug has migrated since this process opened it."""
    return IntegrityViolation(
        "newer_database",
        f"{database} was upgraded by a newer popug (its version is {version}, this program knows {NEWEST}),"
        " so this process does not write to it any more.",
        hint="Stop this process (a server or a scheduler), and start it again with the newer popug.",
        details={"found": version, "known": NEWEST},
    )


def create(home: Home) -> None:
    """Create the home's directories and its database with all tables; migrate an existing one."""
    with translate_errors(home.database):
        home.make()
        home.database.touch(mode=OWNER_ONLY_FILE, exist_ok=True)
        sync_directory(home.root)
    migrate_if_older(home)


def migrate(database: Path, target: str = "head") -> None:
    """Apply the missing migrations, each in its own transaction."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["database"] = database
    with translate_errors(database):
        try:
            command.upgrade(config, target)
        except DBAPIError as error:
            raise error.orig or error from error


def _back_up(home: Home, version: str) -> Path:
    """Copy the database, and return the copy's path, which is the same for every attempt to migrate a version.

    So failed attempts leave one copy. A successful migration gives it a unique name.
    """
    copy = home.backups / f"before-migration-from-{version}.db"
    files.make_directory(home.backups)
    with temporary_file(copy) as (_, partial):
        with closing(sqlite3.connect(home.database)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        shutil.copymode(home.database, partial)
        sync(partial)
        partial.replace(copy)
    sync_directory(home.backups)
    return copy
