"""Which cluster a database belongs to, and whether it may be used: the table ``storage_cluster_state``.

A company's home that became a cluster is sealed: no command works on it any more, so the company has one history only.
The database of a service is ``loading`` until all five are filled.
"""

from pathlib import Path
from typing import NamedTuple

from popug_cli.kernel.errors import Conflict, Unavailable
from popug_cli.storage.port import Connection

LOADING, RESTORING, ACTIVE, MOVED = "loading", "restoring", "active", "moved"
SELECT_STATE = "SELECT cluster_id, state, gateway FROM storage_cluster_state"
UPSERT_STATE = (
    "INSERT INTO storage_cluster_state (id, cluster_id, state, gateway, changed_at, timeline) VALUES (1, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET cluster_id = excluded.cluster_id, state = excluded.state,"
    " gateway = excluded.gateway, changed_at = excluded.changed_at, timeline = excluded.timeline"
)


class ClusterState(NamedTuple):
    """The state of a database: the id of its cluster, its state, and the gateway's URL.

    A database is ``LOADING`` while it is filled and ``RESTORING`` while it begins a new life in place.
    """

    cluster_id: str
    state: str
    gateway: str = ""


class FoundCompany(NamedTuple):
    """The company in a database: the id of the home in which it was founded, and its state."""

    home_id: str
    state: ClusterState | None


def find(connection: Connection) -> FoundCompany | None:
    """Return the company in a database, or None if it has none."""
    home_id = connection.scalar("SELECT home_id FROM storage_home")
    return None if home_id is None else FoundCompany(home_id, load(connection))


def load(connection: Connection) -> ClusterState | None:
    """Return the state of a database, or None if it has never belonged to a cluster."""
    row = connection.select_one(SELECT_STATE)
    return ClusterState(*row) if row else None


def store(connection: Connection, state: ClusterState, changed_at: str) -> None:
    """Store the state of a database, and the present timeline of its server."""
    connection.execute(UPSERT_STATE, *state, changed_at, connection.timeline())


def require_usable(state: ClusterState | None, place: Path | str, *, accept_restoring: bool = False) -> None:
    """Raise ``moved`` for a home whose company is a cluster now, ``loading`` for a database that is not finished."""
    if state is None or state.state == ACTIVE or (accept_restoring and state.state == RESTORING):
        return
    raise moved(state, place) if state.state == MOVED else loading(place)


def moved(state: ClusterState, place: Path | str) -> Unavailable:
    """Return the error for a home whose company is a cluster now."""
    at = f" at {state.gateway}" if state.gateway else ""
    server = state.gateway or "URL"
    note = "" if state.gateway else ", with the address of the cluster's gateway"
    return Unavailable(
        "moved",
        f"The company of {place} has moved to a cluster{at}, so this home answers no command any more.",
        hint=f"Run the command on the cluster: `popug --server {server} COMMAND`{note}.",
        details={"cluster": state.cluster_id, "gateway": state.gateway or None},
    )


def loading(place: Path | str) -> Unavailable:
    """Return the error for the database of a service that `cluster init` or `cluster restore` has not finished."""
    return Unavailable(
        "loading",
        f"{str(place)[:1].upper()}{str(place)[1:]} is still being filled or restored, so no service can use it.",
        hint="Wait for `popug cluster init` or `popug cluster restore`; if it was killed, run the same command again.",
    )


def require_unrecovered(connection: Connection, place: Path | str) -> None:
    """Raise ``recovered_database`` if a database's server went back in time since the logs got their ids.

    Events that other services and the topics have may be missing then. A standby that was promoted has another timeline
    as well, but its server has no target of a recovery.
    """
    timeline = connection.scalar("SELECT timeline FROM storage_cluster_state")
    if timeline is None or timeline == connection.timeline() or not connection.has_recovery_target():
        return
    raise Conflict(
        "recovered_database",
        f"{str(place)[:1].upper()}{str(place)[1:]} was recovered to an earlier time, so its log may lack events that"
        " other services have.",
        hint="Recover all five databases to the same time, then run `popug cluster restore --in-place` before any"
        " service starts.",
    )
