"""The tables of tasks."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE tasks_people (
        user_id TEXT NOT NULL,
        username TEXT NOT NULL,
        role TEXT NOT NULL,
        active INTEGER NOT NULL,
        assignable INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        PRIMARY KEY (user_id),
        UNIQUE (username),
        CONSTRAINT known_role CHECK (role IN ('admin', 'manager', 'accountant', 'worker')),
        CONSTRAINT active_or_not CHECK (active IN (0, 1)),
        CONSTRAINT assignable_by_role CHECK (
            assignable = CASE WHEN active = 1 AND role IN ('accountant', 'worker') THEN 1 ELSE 0 END
        )
    ) STRICT
    """,
    "CREATE INDEX tasks_people_assignable ON tasks_people (user_id) WHERE assignable = 1",
    """
    CREATE TABLE tasks_people_history (
        user_id TEXT NOT NULL,
        from_position INTEGER NOT NULL,
        assignable INTEGER NOT NULL,
        PRIMARY KEY (user_id, from_position),
        FOREIGN KEY (user_id) REFERENCES tasks_people (user_id),
        CONSTRAINT assignable_or_not CHECK (assignable IN (0, 1))
    ) STRICT
    """,
    "CREATE INDEX tasks_people_history_position ON tasks_people_history (from_position)",
    """
    CREATE TABLE tasks_tasks (
        number INTEGER NOT NULL,
        task_id TEXT NOT NULL,
        title TEXT NOT NULL,
        jira_id TEXT,
        search_text TEXT NOT NULL,
        creator_id TEXT NOT NULL,
        assignee_id TEXT NOT NULL,
        status TEXT NOT NULL,
        fee_cents INTEGER,
        reward_cents INTEGER,
        created_at TEXT NOT NULL,
        completed_at TEXT,
        PRIMARY KEY (number),
        UNIQUE (task_id),
        FOREIGN KEY (assignee_id) REFERENCES tasks_people (user_id),
        CONSTRAINT counted_from_one CHECK (number > 0),
        CONSTRAINT title_of_a_line CHECK (length(title) BETWEEN 1 AND 200),
        CONSTRAINT known_status CHECK (status IN ('open', 'completed')),
        CONSTRAINT completed_at_a_time CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
        CONSTRAINT priced_once CHECK ((fee_cents IS NULL) = (reward_cents IS NULL)),
        CONSTRAINT prices_are_positive CHECK (fee_cents > 0 AND reward_cents > 0)
    ) STRICT
    """,
    "CREATE INDEX tasks_tasks_open ON tasks_tasks (assignee_id, number) WHERE status = 'open'",
    """
    CREATE TABLE tasks_imported (
        identity TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (identity),
        FOREIGN KEY (number) REFERENCES tasks_tasks (number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE tasks_shuffles (
        shuffle_id TEXT NOT NULL,
        requested_by TEXT NOT NULL,
        requested_at TEXT NOT NULL,
        state TEXT NOT NULL,
        seed TEXT,
        algorithm TEXT,
        candidates_as_of INTEGER,
        candidates_count INTEGER,
        task_count INTEGER,
        first_sequence INTEGER,
        last_sequence INTEGER,
        error TEXT,
        PRIMARY KEY (shuffle_id),
        CONSTRAINT known_state CHECK (state IN ('requested', 'done', 'failed')),
        CONSTRAINT done_with_a_draw CHECK (
            (state = 'done') = (seed IS NOT NULL AND algorithm IS NOT NULL AND candidates_as_of IS NOT NULL
            AND candidates_count IS NOT NULL AND task_count IS NOT NULL)
        ),
        CONSTRAINT failed_for_a_reason CHECK ((state = 'failed') = (error IS NOT NULL)),
        CONSTRAINT an_event_a_task CHECK (
            coalesce(task_count, 0) = coalesce(last_sequence - first_sequence + 1, 0)
        )
    ) STRICT
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
