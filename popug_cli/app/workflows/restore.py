"""Restore: unpack and verify a backup next to the home, then replace the home by renaming."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.workflows import restored_settings
from popug_cli.app.workflows.backup import verify
from popug_cli.identity import keys, token_store
from popug_cli.kernel.errors import NotFound, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.mail import outbox
from popug_cli.messages.company import Restore, RestoreResult
from popug_cli.messages.principal import Principal
from popug_cli.platform import file_id, files
from popug_cli.platform.swap_dirs import replace_directory
from popug_cli.storage import backup_file, backup_reader, foreign_database, write_lock
from popug_cli.storage.errors import translate_errors
from popug_cli.storage.mounts import TEMP_HOME_MARKER, require_lock_support

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

OTHER_FILE_HINT = "Nothing was changed. Name another file that `popug backup` wrote."


def restore(backend: "LocalBackend", message: Restore, principal: Principal) -> RestoreResult:
    """Replace the home, in whatever state it is, with a verified backup.

    All tokens are revoked, unsent mail is held, a new key signs, and the home keeps its settings of mail. Raise
    ``unreadable_file``, ``file_in_use``, ``corrupt_database``, ``newer_database``, ``integrity``, ``invalid_setting``,
    ``no_locks`` or ``read_only``. Until the replacement, nothing is changed.
    """
    file = Path(message.path).expanduser()
    home = Path(os.path.realpath(backend.home.root))
    require_lock_support(home, home / "popug.db")
    with translate_errors(home / "popug.db"):
        home.parent.mkdir(parents=True, exist_ok=True)
        files.check_writable(home.parent)
    with translate_errors(home / "popug.db"), backup_file.temporary_home(home) as fresh:
        backup_reader.unpack(file, fresh)
        if fault := foreign_database.find_fault(fresh.database):
            raise backup_reader.not_a_backup(file, fault)
        _verify(backend, file, fresh)
        fresh.make()
        _make_safe(backend, fresh, principal)
        settings = restored_settings.merge(Home(home), fresh, take_mail=message.take_mail_settings)
        files.sync(fresh.database)
        files.sync(fresh.root)
        backend.close()
        old_home = home.with_name(f"{home.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        database = home / fresh.database.name
        with write_lock.acquire(database, file_id.file_id(database)):
            replaced = _swap(fresh.root, home, old_home)
    return RestoreResult(str(home), str(old_home) if replaced else None, settings)


def _verify(backend: "LocalBackend", file: Path, fresh: Home) -> None:
    """Run the health checks on the unpacked copy; in errors, name the backup file instead of the copy."""
    try:
        verify(backend, fresh)
    except NotFound as error:
        raise backup_reader.not_a_backup(file, "there is no company in it") from error
    except PopugError as error:
        sentence = error.message.replace(str(fresh.config), f"config.toml in {file}")
        sentence = sentence.replace(str(fresh.database), str(file))
        may_be_valid = isinstance(error, Unavailable) or error.code == "newer_database"
        hint = error.hint if may_be_valid else OTHER_FILE_HINT
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


def _swap(fresh: Path, home: Path, old_home: Path) -> bool:
    try:
        replaced = replace_directory(fresh, home, old_home)
        (home / TEMP_HOME_MARKER).unlink(missing_ok=True)
        files.sync(home.parent)
    except OSError as error:
        raise Unavailable(
            "read_only",
            f"{home} cannot be replaced: {error.strerror or error}.",
            hint=f"Check that {home.parent} is writable and that {home} is not a mount point.",
        ) from error
    return replaced
