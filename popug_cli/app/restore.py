"""Restoring: a backup is unpacked and verified beside the home, then takes its place by renaming."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.backup import verify
from popug_cli.identity import grants, keys
from popug_cli.kernel import disk
from popug_cli.kernel.errors import NotFound, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.mail import outbox
from popug_cli.messages.company import Restore, Restored
from popug_cli.messages.principal import Principal
from popug_cli.storage import archive, queue
from popug_cli.storage.faults import translated
from popug_cli.storage.mounts import check_locks
from popug_cli.storage.swap import take_place

if TYPE_CHECKING:
    from popug_cli.app.local import Local

ANOTHER_FILE = "Nothing was changed. Name another file that `popug backup` wrote."


def restore(place: "Local", message: Restore, principal: Principal) -> Restored:
    """Put a backup in the place of the home, whatever state that is in; nothing is changed unless all went well.

    Every token is revoked and what mail is not sent is held. Raises ``unreadable_file``, ``corrupt_database``,
    ``newer_database``, ``integrity`` or ``no_locks``.
    """
    file = Path(message.path).expanduser()
    home = Path(os.path.realpath(place.home.root))
    check_locks(home, home / "popug.db")
    with translated(home / "popug.db"):
        home.parent.mkdir(parents=True, exist_ok=True)
        disk.check_writable(home.parent)
    with translated(home / "popug.db"), archive.workplace(home) as fresh:
        archive.unpack(file, fresh)
        _verify(place, file, fresh)
        fresh.make()
        _make_safe(place, fresh, principal)
        disk.sync(fresh.database)
        disk.sync(fresh.root)
        place.close()
        aside = home.with_name(f"{home.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        live = home / fresh.database.name
        with queue.turn(live, queue.identity_of(live)):
            return Restored(str(home), str(aside) if _swap(fresh.root, home, aside) else None)


def _verify(place: "Local", file: Path, fresh: Home) -> None:
    """Let the doctor examine what was unpacked; what is wrong is said of the file that it came from."""
    try:
        verify(place, fresh)
    except NotFound as refusal:
        raise archive.not_a_backup(file, "there is no company in it") from refusal
    except PopugError as refusal:
        told = refusal.message.replace(str(fresh.config), f"config.toml in {file}")
        told = told.replace(str(fresh.database), str(file))
        is_elsewhere = isinstance(refusal, Unavailable) or refusal.code == "newer_database"
        hint = refusal.hint if is_elsewhere else ANOTHER_FILE
        raise type(refusal)(refusal.code, told, hint=hint, details=refusal.details) from refusal


def _make_safe(place: "Local", fresh: Home, principal: Principal) -> None:
    """What was good for the company as it was then is good no more: tokens, keys, and mail that may have gone out."""
    apart = place.elsewhere(fresh)
    try:
        with apart.runtime.writing(principal) as context:
            keys.make_first_key(fresh, context.chance, context.beside)
            grants.revoke_everybodys(context, "restored")
            outbox.hold_all(context)
    finally:
        apart.close()


def _swap(fresh: Path, home: Path, aside: Path) -> bool:
    try:
        replaced = take_place(fresh, home, aside)
        (home / archive.MARK).unlink(missing_ok=True)
        disk.sync(home.parent)
    except OSError as error:
        raise Unavailable(
            "read_only",
            f"{home} cannot be replaced: {error.strerror or error}.",
            hint=f"Check that {home.parent} may be written to and that {home} is no mount point.",
        ) from error
    return replaced
