"""Back up all services of a cluster as they were at one time, while commands go on.

The replicators pause until all five snapshots are open. So what a service has received is always something that its
publisher's snapshot has. The copies are made from the snapshots after the pause.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus.log import Log
from popug_cli.cluster.doctor import examine_backup, require_sound
from popug_cli.cluster.opening import Services
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import Conflict, PopugError, Unavailable
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.randomness import uuid7
from popug_cli.messages.cluster import ClusterBackup
from popug_cli.messages.principal import OPERATOR
from popug_cli.platform import files
from popug_cli.storage import backup_file, cluster_pause, temporary_home, write_lock
from popug_cli.storage.mounts import TEMP_HOME_MARKER
from popug_cli.storage.snapshots import Snapshot, open_snapshot
from popug_cli.storage.sqlite import SqliteDatabase

PAUSE_SECONDS = 30.0
MAX_CLOCK_DIFFERENCE_SECONDS = 5.0  # of the machines that read the end of the pause


def back_up(services: Services, directory: Path, progress: Progress) -> ClusterBackup:
    """Write a checked copy of all databases and settings into a new directory.

    Raise ``file_exists``, ``unwritable_file``, ``backup_running`` if another backup pauses services, ``pause_ended``
    if the snapshots took too long, or ``integrity`` if the copies fail a check. Then nothing is left.
    """
    directory = Path(os.path.abspath(directory.expanduser()))
    _refuse_existing(directory)
    with ExitStack() as stack:
        try:
            files.make_directory(directory.parent)
            list(temporary_home.clear_homes(directory.parent, directory))
        except OSError as error:
            raise unwritable(directory, error) from error
        fresh = stack.enter_context(temporary_home.temporary_home(directory)).root
        with ExitStack() as snapshots:
            for service, snapshot in _snapshots(services, snapshots).items():
                _copy(services[service], snapshot, fresh / service, progress)
        require_sound(
            examine_backup(fresh, lambda sentence: None, progress),
            "The copy is not healthy",
            "Nothing was kept. Run `popug cluster doctor` to see all problems.",
        )
        size_bytes = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
        positions = {service: _position(fresh / service) for service in services}
        _refuse_existing(directory)
        try:
            for path in (*fresh.rglob("*"), fresh):
                files.sync(path)
            fresh.rename(directory)
            (directory / TEMP_HOME_MARKER).unlink(missing_ok=True)
            files.sync_directory(directory)
            files.sync_directory(directory.parent)
        except OSError as error:
            raise unwritable(directory, error) from error
    return ClusterBackup(str(directory), size_bytes, positions)


def _snapshots(services: Services, stack: ExitStack) -> Mapping[str, Snapshot]:
    """Return a snapshot of each service, opened in ``stack`` during a pause."""
    with _pause(services) as begun_at:
        opened = {
            service: stack.enter_context(open_snapshot(backend.runtime.database, backend.home.database))
            for service, backend in services.items()
        }
        seconds = time.monotonic() - begun_at
    if seconds > PAUSE_SECONDS - MAX_CLOCK_DIFFERENCE_SECONDS:
        raise Unavailable(
            "pause_ended",
            f"The snapshots of the five databases took {seconds:.0f} seconds, and the services pause for"
            f" {PAUSE_SECONDS:.0f} seconds at most; so there is no backup.",
            hint="A database may be overloaded. Run `popug cluster status`, then try again.",
            details={"seconds": round(seconds)},
        )
    return opened


@contextmanager
def _pause(services: Services) -> Iterator[float]:
    """Pause the replicators of all services; yield the time, by the monotonic clock, at which the pause began."""
    pause_id, begun_at = "", time.monotonic()
    paused: list[LocalBackend] = []
    try:
        for service, backend in services.items():
            with backend.runtime.writing(OPERATOR) as context:
                pause_id = pause_id or uuid7(context.now, context.randomness)
                if cluster_pause.current(context.connection, context.now) is not None:
                    raise _backup_running(service)
                cluster_pause.begin(context.connection, pause_id, context.now + timedelta(seconds=PAUSE_SECONDS))
            paused.append(backend)
        yield begun_at
    finally:
        for backend in paused:
            with (
                suppress(PopugError),
                backend.runtime.writing(OPERATOR) as context,
            ):  # if this fails, the pause ends by itself
                cluster_pause.end(context.connection, pause_id)


def _copy(backend: LocalBackend, snapshot: Snapshot, target: Path, progress: Progress) -> None:
    try:
        target.mkdir(mode=files.OWNER_ONLY_DIRECTORY)
        snapshot.copy_to(target / backup_file.DATABASE, progress)
        if backend.home.config.is_file():
            files.replace_file(target / backup_file.SETTINGS, backend.home.config.read_bytes())
    except OSError as error:
        raise unwritable(target, error) from error
    database = SqliteDatabase(target / backup_file.DATABASE)
    with database.transaction(writes=True) as connection:
        cluster_pause.end_any(connection)
    database.close()
    (target / write_lock.LOCK_FILE_NAME).unlink(missing_ok=True)


def _position(folder: Path) -> int:
    database = SqliteDatabase(folder / backup_file.DATABASE)
    with database.transaction(writes=False) as connection:
        position = Log(connection).last_position()
    database.close()
    return position


def _refuse_existing(directory: Path) -> None:
    if os.path.lexists(directory):
        raise Conflict(
            "file_exists",
            f"{directory} already exists.",
            hint="Name another directory; a backup never replaces one.",
            details={"path": str(directory)},
        )


def _backup_running(service: str) -> Conflict:
    return Conflict(
        "backup_running",
        f"Another backup has just paused {service}, so this backup did not start.",
        hint=f"Try again in {PAUSE_SECONDS:.0f} seconds.",
        details={"service": service},
    )
