"""The tables of tasks."""

from sqlalchemy import CheckConstraint, Column, Index, Integer, text
from sqlmodel import Field, SQLModel

from popug_cli.storage.id_index import id_end


class PersonRow(SQLModel, table=True):
    """A copy of identity's user; ``last_sequence`` is the position of the last event that was applied."""

    __tablename__ = "tasks_people"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'manager', 'accountant', 'worker')", name="known_role"),
        CheckConstraint("active IN (0, 1)", name="active_or_not"),
        CheckConstraint(
            "assignable = CASE WHEN active = 1 AND role IN ('accountant', 'worker') THEN 1 ELSE 0 END",
            name="assignable_by_role",
        ),
        Index("tasks_people_assignable", "user_id", sqlite_where=text("assignable = 1")),
        {"sqlite_strict": True},
    )

    user_id: str = Field(primary_key=True)
    username: str = Field(unique=True)
    role: str
    active: int
    assignable: int
    last_sequence: int


class AssignabilityRow(SQLModel, table=True):
    """Whether a user is assignable from a position in the log on, until the user's next row."""

    __tablename__ = "tasks_people_history"
    __table_args__ = (
        CheckConstraint("assignable IN (0, 1)", name="assignable_or_not"),
        Index("tasks_people_history_position", "from_position"),
        {"sqlite_strict": True},
    )

    user_id: str = Field(primary_key=True, foreign_key="tasks_people.user_id")
    from_position: int = Field(primary_key=True)
    assignable: int


class DrawCountRow(SQLModel, table=True):
    """How often popug drew an assignee, by the log position since which the candidates of the draw were the same."""

    __tablename__ = "tasks_draw_counts"
    __table_args__ = (
        CheckConstraint("draws_count > 0", name="counted"),
        {"sqlite_strict": True, "sqlite_with_rowid": False},
    )

    candidates_since: int = Field(primary_key=True)
    assignee_id: str = Field(primary_key=True)
    draws_count: int


class TaskRow(SQLModel, table=True):
    """A task; ``search_text`` is its jira id and title in the form that searches compare."""

    __tablename__ = "tasks_tasks"
    __table_args__ = (
        CheckConstraint("number > 0", name="counted_from_one"),
        CheckConstraint("length(title) BETWEEN 1 AND 200", name="title_of_a_line"),
        CheckConstraint("status IN ('open', 'completed')", name="known_status"),
        CheckConstraint("(status = 'completed') = (completed_at IS NOT NULL)", name="completed_at_a_time"),
        CheckConstraint("(fee_cents IS NULL) = (reward_cents IS NULL)", name="priced_once"),
        CheckConstraint("fee_cents > 0 AND reward_cents > 0", name="prices_are_positive"),
        Index("tasks_tasks_open", text(id_end("assignee_id")), sqlite_where=text("status = 'open'")),
        {"sqlite_strict": True},
    )

    number: int = Field(primary_key=True)
    task_id: str = Field(unique=True)
    title: str
    jira_id: str | None
    search_text: str
    creator_id: str
    assignee_id: str = Field(foreign_key="tasks_people.user_id")
    status: str
    fee_cents: int | None
    reward_cents: int | None
    created_at: str
    completed_at: str | None


class ImportedRow(SQLModel, table=True):
    """The import key of a line of an imported file (``identity``), and the task that was created from it."""

    __tablename__ = "tasks_imported"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    identity: str = Field(primary_key=True)
    number: int = Field(foreign_key="tasks_tasks.number")


class CompanyRow(SQLModel, table=True):
    """The single row with the company's first day."""

    __tablename__ = "tasks_company"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(sa_column=Column(Integer, primary_key=True))
    first_day: str


class EndedDayRow(SQLModel, table=True):
    """A day that was ended, and with it all days before.

    ``event_id`` is its ``day_ended``, or NULL for a day that was closed before tasks recorded the end of days.
    """

    __tablename__ = "tasks_ended_days"
    __table_args__ = ({"sqlite_strict": True},)

    business_date: str = Field(primary_key=True)
    event_id: str | None = Field(unique=True)
    ended_at: str


class ShuffleRow(SQLModel, table=True):
    """A shuffle and its result; the sequences are the log positions of its first and last ``task_assigned``."""

    __tablename__ = "tasks_shuffles"
    __table_args__ = (
        CheckConstraint("state IN ('requested', 'done', 'failed')", name="known_state"),
        CheckConstraint(
            "(state = 'done') = (seed IS NOT NULL AND algorithm IS NOT NULL AND candidates_as_of IS NOT NULL"
            " AND candidates_count IS NOT NULL AND task_count IS NOT NULL)",
            name="done_with_a_draw",
        ),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="failed_for_a_reason"),
        CheckConstraint(
            "coalesce(task_count, 0) = coalesce(last_sequence - first_sequence + 1, 0)", name="an_event_a_task"
        ),
        {"sqlite_strict": True},
    )

    shuffle_id: str = Field(primary_key=True)
    requested_by: str
    requested_at: str
    state: str
    seed: str | None
    algorithm: str | None
    candidates_as_of: int | None
    candidates_count: int | None
    task_count: int | None
    first_sequence: int | None
    last_sequence: int | None
    error: str | None
