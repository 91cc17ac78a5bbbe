"""The tables of analytics; all of them can be rebuilt from events."""

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field, SQLModel


class PersonRow(SQLModel, table=True):
    """What somebody has now, in cents."""

    __tablename__ = "analytics_people"
    __table_args__ = ({"sqlite_strict": True},)

    user_id: str = Field(primary_key=True)
    balance_cents: int


class BalanceChangeRow(SQLModel, table=True):
    """What a business date did to somebody's balance, in cents."""

    __tablename__ = "analytics_balance_changes"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    business_date: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    change_cents: int


class DayRow(SQLModel, table=True):
    """Fees and rewards of a business date and, once it is closed, how many were in the red at its end."""

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
    """A task as far as events have told of it; ``business_date`` is that of its reward."""

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
        {"sqlite_strict": True},
    )

    task_id: str = Field(primary_key=True)
    number: int | None
    title: str | None
    reward_cents: int | None
    completed_at: str | None
    business_date: str | None
