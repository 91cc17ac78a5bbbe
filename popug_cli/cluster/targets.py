"""The places that receive the databases of the services: homes with a file each, or databases of a PostgreSQL server.

A place is filled in the state ``loading``, and activated when all five are filled. Only an empty place is taken, or one
that an earlier attempt for the same company has left ``loading``.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from popug_cli.cluster.places import Places
from popug_cli.kernel.clock import SystemClock, to_rfc3339
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import Conflict
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.messages.services import SERVICES
from popug_cli.platform import files
from popug_cli.storage import cluster_state, migrate
from popug_cli.storage.cluster_state import ACTIVE, LOADING, ClusterState, FoundCompany
from popug_cli.storage.mounts import TEMP_HOME_MARKER
from popug_cli.storage.port import Database
from popug_cli.storage.sqlite import SqliteDatabase


class Targets(ABC):
    """The five places of a cluster's databases."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def require_free(self, home_id: str) -> None:
        """Raise ``already_initialised`` unless each place is empty, or ``loading`` for this company."""
        for service in SERVICES:
            found = self.find(service)
            if found is None or (found.home_id == home_id and found.state and found.state.state == LOADING):
                continue
            raise occupied(self.address(service))

    def states(self) -> dict[str, ClusterState | None]:
        """Return the state of each place, None for an empty one; raise ``already_initialised`` as ``find`` does."""
        found = {service: self.find(service) for service in SERVICES}
        return {service: each.state if each else None for service, each in found.items()}

    def activate(self, cluster_id: str, gateway: str) -> None:
        """Let the services of a cluster use their databases; repeat it after a crash."""
        state = ClusterState(cluster_id, ACTIVE, gateway)
        for service in SERVICES:
            with closing(self.open(service)) as database, database.transaction(writes=True) as connection:
                found = cluster_state.load(connection)
                if found is not None and found.cluster_id == cluster_id and found.state != ACTIVE:
                    cluster_state.store(connection, state, now())

    @abstractmethod
    def address(self, service: str) -> str:
        """Return the text that names a place in messages."""

    @abstractmethod
    def prepare(self) -> None:
        """Create the databases or the directory that the places need; the caller has called ``find`` for each place."""

    @abstractmethod
    def find(self, service: str) -> FoundCompany | None:
        """Return the company in a place, or None if it is empty; raise ``already_initialised`` for anything else."""

    @abstractmethod
    def fill(self, service: str, staged: Home, state: ClusterState, progress: Progress) -> None:
        """Put the database of a service, which is complete in the home ``staged``, into its place."""

    @abstractmethod
    def empty(self, service: str, cluster_id: str) -> None:
        """Empty a place that is ``loading`` for a cluster."""

    @abstractmethod
    def drop(self) -> None:
        """Delete all places with what is in them; no service may use them any more."""

    @abstractmethod
    def open(self, service: str) -> Database:
        """Return the database in a place, which has one."""


def targets_of(places: Places) -> Targets:
    """Return the places of a cluster."""
    if not places.database:
        return FileTargets(places)
    from popug_cli.storage.postgres import require_driver

    require_driver()
    from popug_cli.cluster.server_targets import ServerTargets

    return ServerTargets(places)


def occupied(place: Path | str) -> Conflict:
    """Return the error for a place that has something already."""
    return Conflict(
        "already_initialised",
        f"{place} is not empty, so nothing was changed.",
        hint="Name empty places: another directory with --homes DIR, or other databases with --prefix NAME.",
    )


class FileTargets(Targets):
    """A home for each service in one directory; it is complete when it gets its name."""

    def address(self, service: str) -> str:
        """Return the path of a service's home."""
        return str(self.places.home_of(service).root)

    def prepare(self) -> None:
        """Create the directory of the homes; raise ``unwritable_file`` or an error of the disk."""
        make_homes(self.places.homes)

    def find(self, service: str) -> FoundCompany | None:
        """Return the company in a home; raise ``already_initialised`` or ``newer_database``, too."""
        home = self.places.home_of(service)
        if not home.root.exists() or (home.root.is_dir() and not any(home.root.iterdir())):
            return None
        if not home.database.is_file() or migrate.version_of(home.database) is None:
            raise occupied(home.root)
        migrate.migrate_if_older(home)
        with closing(self.open(service)) as database, database.transaction(writes=False) as connection:
            return cluster_state.find(connection)

    def fill(self, service: str, staged: Home, state: ClusterState, progress: Progress) -> None:
        """Move the home into its place."""
        home = self.places.home_of(service)
        with closing(SqliteDatabase(staged.database)) as database, database.transaction(writes=True) as connection:
            cluster_state.store(connection, state, now())
        if home.root.exists():
            shutil.rmtree(home.root)  # empty, or left by an earlier attempt: ``require_free`` has checked that
        try:
            files.sync(staged.database)
            staged.root.rename(home.root)
            (home.root / TEMP_HOME_MARKER).unlink(missing_ok=True)
            files.sync_directory(home.root)
            files.sync_directory(home.root.parent)
        except OSError as error:
            raise unwritable(home.root, error) from error

    def empty(self, service: str, cluster_id: str) -> None:
        """Remove the home."""
        found = self.find(service)
        if found and found.state and found.state[:2] == (cluster_id, LOADING):
            shutil.rmtree(self.places.home_of(service).root)

    def drop(self) -> None:
        """Delete the homes."""
        for service in SERVICES:
            if self.places.home_of(service).root.exists():
                shutil.rmtree(self.places.home_of(service).root)

    def open(self, service: str) -> Database:
        """Return the file in a home."""
        home = self.places.home_of(service)
        (home.root / TEMP_HOME_MARKER).unlink(missing_ok=True)  # of an attempt that was killed after its rename
        return SqliteDatabase(home.database)


def make_homes(directory: Path) -> None:
    """Create the directory of the services' homes; raise ``unwritable_file`` or an error of the disk."""
    try:
        files.make_directory(directory)
        files.check_writable(directory)
    except OSError as error:
        raise unwritable(directory, error) from error


def same_cluster(states: Mapping[str, ClusterState | None]) -> str | None:
    """Return the id of the cluster that all places belong to, or None if they do not belong to one."""
    ids = {state.cluster_id if state else None for state in states.values()}
    return ids.pop() if len(ids) == 1 else None


def now() -> str:
    """Return the present instant as a database stores it."""
    return to_rfc3339(SystemClock().now())
