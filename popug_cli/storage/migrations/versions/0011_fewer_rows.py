"""Store done events as ranges instead of one row each, index the rare events, and count the draws."""

from alembic import op

revision = "0011"
down_revision = "0010"

# Each consumer and the types that it subscribed to at this revision.
SUBSCRIPTIONS = {
    "analytics": (
        "popug.identity.user_registered.v1",
        "popug.tasks.task_created.v1",
        "popug.tasks.task_created.v2",
        "popug.billing.task_priced.v1",
        "popug.tasks.task_completed.v1",
        "popug.billing.entry_posted.v1",
        "popug.billing.day_closed.v1",
    ),
    "billing": (
        "popug.identity.user_registered.v1",
        "popug.tasks.task_created.v1",
        "popug.tasks.task_created.v2",
        "popug.tasks.task_assigned.v1",
        "popug.tasks.task_completed.v1",
    ),
    "mail": (
        "popug.identity.user_registered.v1",
        "popug.identity.user_email_changed.v1",
        "popug.identity.user_role_changed.v1",
        "popug.identity.user_deactivated.v1",
        "popug.identity.user_reactivated.v1",
        "popug.billing.payout_made.v1",
        "popug.billing.day_closed.v1",
    ),
    "tasks": (
        "popug.identity.user_registered.v1",
        "popug.identity.user_role_changed.v1",
        "popug.identity.user_deactivated.v1",
        "popug.identity.user_reactivated.v1",
        "popug.billing.task_priced.v1",
        "popug.tasks.shuffle_requested.v1",
    ),
}
SUBSCRIBED = ", ".join(f"('{consumer}', '{type_}')" for consumer, types in SUBSCRIPTIONS.items() for type_ in types)

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE bus_inbox RENAME TO bus_inbox_rows",
    """
    CREATE TABLE bus_inbox (
        consumer TEXT NOT NULL,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        PRIMARY KEY (consumer, first_sequence),
        CONSTRAINT a_range CHECK (first_sequence <= last_sequence)
    ) STRICT, WITHOUT ROWID
    """,
    # A range ends before each subscribed event that is not done, and the last range at the cursor.
    f"""
    INSERT INTO bus_inbox (consumer, first_sequence, last_sequence)
    WITH subscribed (consumer, type) AS (VALUES {SUBSCRIBED}),
    reached (consumer, position) AS (
        SELECT consumer, max(position) FROM (
            SELECT consumer, position FROM bus_cursors
            UNION ALL SELECT consumer, max(sequence) FROM bus_inbox_rows GROUP BY consumer
        ) AS positions GROUP BY consumer
    ),
    bounds (consumer, sequence) AS (
        SELECT consumer, 0 FROM reached
        UNION ALL SELECT consumer, position + 1 FROM reached
        UNION ALL
        SELECT subscribed.consumer, log.sequence FROM bus_log log
        JOIN subscribed ON subscribed.type = log.type
        JOIN reached ON reached.consumer = subscribed.consumer AND log.sequence <= reached.position
        WHERE log.sequence > 0 AND NOT EXISTS (SELECT 1 FROM bus_inbox_rows done
            WHERE done.consumer = subscribed.consumer AND done.sequence = log.sequence)
    )
    SELECT consumer, sequence + 1, next_sequence - 1 FROM (
        SELECT consumer, sequence, lead(sequence) OVER (PARTITION BY consumer ORDER BY sequence) AS next_sequence
        FROM bounds
    ) AS neighbours WHERE next_sequence > sequence + 1
    """,
    "DROP TABLE bus_inbox_rows",
    """
    CREATE INDEX bus_log_rare ON bus_log (subject, type)
        WHERE coalesce(type, '') <> 'popug.billing.entry_posted.v1'
        AND coalesce(type, '') <> 'popug.tasks.task_assigned.v1'
        AND coalesce(type, '') <> 'popug.billing.task_priced.v1'
        AND coalesce(type, '') <> 'popug.tasks.task_created.v2'
        AND coalesce(type, '') <> 'popug.tasks.task_completed.v1'
    """,
    """
    CREATE TABLE tasks_draw_counts (
        candidates_since INTEGER NOT NULL,
        assignee_id TEXT NOT NULL,
        draws_count INTEGER NOT NULL,
        PRIMARY KEY (candidates_since, assignee_id),
        CONSTRAINT counted CHECK (draws_count > 0)
    ) STRICT, WITHOUT ROWID
    """,
    # Draws in events that no link covers are not counted here: other programs inserted those events.
    """
    INSERT INTO tasks_draw_counts (candidates_since, assignee_id, draws_count)
    SELECT coalesce((SELECT max(from_position) FROM tasks_people_history
            WHERE from_position <= json_extract(log.envelope, '$.data.draw.candidates_as_of')), 0),
        json_extract(log.envelope, '$.data.assignee_id'), count(*)
    FROM bus_links link CROSS JOIN bus_log log ON log.sequence BETWEEN link.first_sequence AND link.last_sequence
    WHERE log.type = 'popug.tasks.task_assigned.v1' GROUP BY 1, 2
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
