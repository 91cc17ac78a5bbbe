"""The table that says what the home is."""

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel


class HomeRow(SQLModel, table=True):
    """The one row of what was decided at ``init``, for good."""

    __tablename__ = "storage_home"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(primary_key=True)
    home_id: str
    time_zone: str
    founded_at: str


class HeartbeatRow(SQLModel, table=True):
    """When something that runs by itself was last seen running."""

    __tablename__ = "storage_heartbeats"
    __table_args__ = ({"sqlite_strict": True},)

    name: str = Field(primary_key=True)
    seen_at: str
