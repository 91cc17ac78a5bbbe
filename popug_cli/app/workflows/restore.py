"""Restore: unpack and verify a backup next to the home, then replace the home by renaming."""

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.workflows import restored_settings, server_backup
from popug_cli.app.workflows.backup import verify
from popug_cli.identity import keys, token_store
from popug_cli.kernel import home_owner
from popug_cli.kernel.errors import NotFound, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import DATABASE_URL, load_settings, read_settings
from popug_cli.mail import outbox
from popug_cli.messages.company import Restore, RestoreResult
from popug_cli.messages.principal import Principal
from popug_cli.platform import file_id, files
from popug_cli.platform.swap_dirs import replace_directory
from popug_cli.storage import backup_reader, foreign_database, temporary_home, volume_swap, write_lock
from popug_cli.storage.errors import translate_errors
from popug_cli.storage.mounts import require_lock_support

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

OTHER_FILE_HINT = "Nothing was changed. Name another file that `popug backup` wrote."


def restore(backend: "LocalBackend", message: Restore, principal: Principal) -> RestoreResult:
    """Replace the home, in whatever state it is, with a verified backup.

    All tokens are revoked, unsent mail is held, a new key signs, and the home keeps its settings of mail unless
    ``take_mail_settings``. Raise
    ``unreadable_file``, ``file_in_use``, ``corrupt_database``, ``newer_database``, ``integrity``, ``invalid_setting``,
    ``no_locks``, ``read_only``, or ``usage`` for a company on PostgreSQL. Until the replacement, nothing is changed.
    """
    if read_settings(backend.home.config).text(DATABASE_URL):
        raise server_backup.refused("popug restore")
    file = Path(message.path).expanduser()
    home = Path(os.path.realpath(backend.home.root))
    home_owner.check_owner(home)
    require_lock_support(home, home / "popug.db")
    for sentence in temporary_home.clear(backend.home):
        backend.warn(sentence)
    in_volume = volume_swap.is_needed(home)
    with translate_errors(home / "popug.db"):
        home.parent.mkdir(parents=True, exist_ok=True)
        files.check_writable(home if in_volume else home.parent)
        if in_volume and not (home / "popug.db").exists():
            home.chmod(files.OWNER_ONLY_DIRECTORY)
    next_to = home / volume_swap.LABEL if in_volume else home
    with translate_errors(home / "popug.db"), temporary_home.temporary_home(next_to) as fresh:
        backup_reader.unpack(file, fresh)
        if fault := foreign_database.find_fault(fresh.database):
            raise backup_reader.not_a_backup(file, fault)
        if read_settings(fresh.config, {}).text(DATABASE_URL):
            raise backup_reader.not_a_backup(file, "its settings name a PostgreSQL database")
        _verify(backend, file, fresh)
        fresh.make()
        _make_safe(backend, fresh, principal)
        settings = restored_settings.merge(Home(home), fresh, take_mail=message.take_mail_settings)
        if link_note := restored_settings.keep_link(Home(home), fresh):
            backend.warn(link_note)
        old_home = _old_home(home, in_volume=in_volume)
        temporary_home.write_swap_plan(fresh, old_home)
        files.sync(fresh.database)
        files.sync(fresh.root)
        backend.close()
        database = home / fresh.database.name
        with write_lock.acquire(database, file_id.file_id(database)):
            kept = _swap(fresh.root, home, old_home, in_volume=in_volume)
    return RestoreResult(str(home), None if kept is None else str(kept), settings)


def _verify(backend: "LocalBackend", file: Path, fresh: Home) -> None:
    """Run the health checks on the unpacked copy, whose database file is checked already.

    In errors, name the backup file instead of the copy.
    """
    try:
        load_settings(fresh.config, {})
        verify(backend, fresh, is_file_checked=True)
    except NotFound as error:
        raise backup_reader.not_a_backup(file, "there is no company in it") from error
    except PopugError as error:
        sentence = error.message.replace(str(fresh.config), f"config.toml in {file}")
        sentence = sentence.replace(str(fresh.database), str(file))
        may_be_valid = isinstance(error, Unavailable) or error.code == "newer_database"
        hint = error.hint if may_be_valid else OTHER_FILE_HINT
        if error.code == "invalid_setting":
            name = shlex.quote(str(file))
            hint = f"Restore its database alone: `unzip {name} popug.db -d rescued`, `popug restore rescued/popug.db`."
        raise type(error)(error.code, sentence, hint=hint, details=error.details) from error


def _make_safe(backend: "LocalBackend", fresh: Home, principal: Principal) -> None:
    """Create a new signing key, revoke all tokens, and hold unsent mail, which may have been sent since the backup."""
    fresh_backend = backend.for_home(fresh)
    try:
        with fresh_backend.runtime.writing(principal) as context:
            keys.create_first_key(fresh, context.randomness, context.on_rollback)
            token_store.revoke_all_tokens(context, "restored")
            outbox.hold_all(context)
    finally:
        fresh_backend.close()


def _old_home(home: Path, *, in_volume: bool) -> Path:
    """Return the path at which the old home, or its content if the home cannot be renamed, is kept."""
    name = f"{volume_swap.OLD_CONTENT_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    return home / name if in_volume else home.with_name(f"{home.name}.{name}")


def _swap(fresh: Path, home: Path, old_home: Path, *, in_volume: bool) -> Path | None:
    """Replace the home with the fresh one, and return the path of the old home, or None if there was none."""
    try:
        if in_volume:
            return volume_swap.swap(fresh, home, old_home)
        replace_directory(fresh, home, old_home)
        return temporary_home.finish_swap(home)
    except OSError as error:
        raise Unavailable(
            "read_only",
            f"{home} cannot be replaced: {error.strerror or error}.",
            hint=f"Check that {home if in_volume else home.parent} is writable, then try again.",
        ) from error
