"""The tables about the home itself."""

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel


class HomeRow(SQLModel, table=True):
    """The single row of decisions made at ``init``; they never change."""

    __tablename__ = "storage_home"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(primary_key=True)
    home_id: str
    time_zone: str
    founded_at: str


class HeartbeatRow(SQLModel, table=True):
    """When the scheduler was last seen running, and when it last tried to write the daily backup."""

    __tablename__ = "storage_heartbeats"
    __table_args__ = ({"sqlite_strict": True},)

    name: str = Field(primary_key=True)
    seen_at: str


class ClusterStateRow(SQLModel, table=True):
    """Which cluster a database belongs to: ``loading`` while it is being filled, then ``active``.

    A home whose company has become a cluster is ``moved``. ``gateway`` is the address of the cluster's gateway, or
    empty. ``timeline`` is that of the PostgreSQL server when the logs of the services got their ids, 0 without one.
    """

    __tablename__ = "storage_cluster_state"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        CheckConstraint("state IN ('loading', 'restoring', 'active', 'moved')", name="known_state"),
        {"sqlite_strict": True},
    )

    id: int = Field(primary_key=True)
    cluster_id: str
    state: str
    gateway: str
    changed_at: str
    timeline: int


class ClusterPauseRow(SQLModel, table=True):
    """A backup of all services that lets no replicator write until it is removed, or until ``ends_at``."""

    __tablename__ = "storage_cluster_pause"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(primary_key=True)
    pause_id: str
    ends_at: str
