"""The tables of analytics; all of them can be rebuilt from the events."""

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field, SQLModel


class PersonRow(SQLModel, table=True):
    """The present balance of a user, in cents."""

    __tablename__ = "analytics_people"
    __table_args__ = ({"sqlite_strict": True},)

    user_id: str = Field(primary_key=True)
    balance_cents: int


class BalanceChangeRow(SQLModel, table=True):
    """The change of a user's balance on a business date, in cents."""

    __tablename__ = "analytics_balance_changes"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    business_date: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    change_cents: int


class DayRow(SQLModel, table=True):
    """Fees and rewards of a business date in cents; once closed, also the number of users in the red at its end."""

    __tablename__ = "analytics_days"
    __table_args__ = (
        CheckConstraint("closed IN (0, 1)", name="closed_or_not"),
        CheckConstraint("(closed = 1) = (in_red_count IS NOT NULL)", name="closed_days_have_figures"),
        {"sqlite_strict": True},
    )

    business_date: str = Field(primary_key=True)
    fees_cents: int
    rewards_cents: int
    closed: int
    in_red_count: int | None


class TaskRow(SQLModel, table=True):
    """A task as far as it is known from events; ``business_date`` is that of its reward."""

    __tablename__ = "analytics_tasks"
    __table_args__ = (
        Index(
            "analytics_tasks_dearest",
            "business_date",
            text("reward_cents DESC"),
            "completed_at",
            "number",
            sqlite_where=text("business_date IS NOT NULL"),
        ),
        {"sqlite_strict": True, "sqlite_with_rowid": False},
    )

    task_id: str = Field(primary_key=True)
    number: int | None
    title: str | None
    reward_cents: int | None
    completed_at: str | None
    business_date: str | None
