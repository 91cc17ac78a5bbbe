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
