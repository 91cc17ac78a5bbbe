"""Store less per event, task and entry: short type numbers, short index keys, no column that another one determines."""

from collections.abc import Iterable

from alembic import op

revision = "0012"
down_revision = "0011"

CHUNK_ROWS = 20_000
LOG = """
    CREATE TABLE bus_log (
        sequence INTEGER PRIMARY KEY,
        envelope TEXT NOT NULL,
        frequent_type INTEGER GENERATED ALWAYS AS (CASE json_extract(envelope, '$.type')
            WHEN 'popug.billing.entry_posted.v1' THEN 1
            WHEN 'popug.tasks.task_assigned.v1' THEN 2
            WHEN 'popug.billing.task_priced.v1' THEN 3
            WHEN 'popug.tasks.task_created.v2' THEN 4
            WHEN 'popug.tasks.task_completed.v1' THEN 5
            ELSE 0 END) STORED,
        type TEXT GENERATED ALWAYS AS (CASE frequent_type
            WHEN 1 THEN 'popug.billing.entry_posted.v1'
            WHEN 2 THEN 'popug.tasks.task_assigned.v1'
            WHEN 3 THEN 'popug.billing.task_priced.v1'
            WHEN 4 THEN 'popug.tasks.task_created.v2'
            WHEN 5 THEN 'popug.tasks.task_completed.v1'
            ELSE json_extract(envelope, '$.type') END) VIRTUAL,
        id TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.id')) VIRTUAL,
        subject TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.subject')) VIRTUAL
    ) STRICT
"""
LOG_OBJECTS = (
    "CREATE INDEX bus_log_id ON bus_log (substr(id, 29))",
    "CREATE INDEX bus_log_subject ON bus_log (substr(subject, 29))",
    "CREATE INDEX bus_log_rare ON bus_log (subject, type) WHERE frequent_type = 0",
    """
    CREATE TRIGGER bus_log_no_update BEFORE UPDATE ON bus_log
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
    """
    CREATE TRIGGER bus_log_no_delete BEFORE DELETE ON bus_log
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
)
PRICES = """
    CREATE TABLE billing_tasks (
        task_id TEXT NOT NULL,
        number INTEGER,
        title TEXT,
        fee_cents INTEGER NOT NULL,
        reward_cents INTEGER NOT NULL,
        PRIMARY KEY (task_id),
        CONSTRAINT fee_in_bounds CHECK (fee_cents BETWEEN 1000 AND 2000 AND fee_cents % 100 = 0),
        CONSTRAINT reward_in_bounds CHECK (reward_cents BETWEEN 2000 AND 4000 AND reward_cents % 100 = 0)
    ) STRICT, WITHOUT ROWID
"""
PRICE_OBJECTS = (
    """
    CREATE TRIGGER billing_tasks_price_for_good BEFORE UPDATE OF task_id, fee_cents, reward_cents ON billing_tasks
    BEGIN SELECT RAISE(ABORT, 'a price never changes'); END
    """,
    """
    CREATE TRIGGER billing_tasks_no_delete BEFORE DELETE ON billing_tasks
    BEGIN SELECT RAISE(ABORT, 'a price never changes'); END
    """,
)
ENTRIES = """
    CREATE TABLE billing_entries (
        position INTEGER PRIMARY KEY,
        entry_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        employee_id TEXT NOT NULL,
        debit_account TEXT GENERATED ALWAYS AS (CASE kind WHEN 'fee' THEN employee_id WHEN 'reward' THEN 'management'
            WHEN 'payout' THEN employee_id WHEN 'fee_reversal' THEN 'management'
            WHEN 'reward_reversal' THEN employee_id END) VIRTUAL,
        credit_account TEXT GENERATED ALWAYS AS (CASE kind WHEN 'fee' THEN 'management' WHEN 'reward' THEN employee_id
            WHEN 'payout' THEN 'payouts' WHEN 'fee_reversal' THEN employee_id
            WHEN 'reward_reversal' THEN 'management' END) VIRTUAL,
        amount_cents INTEGER NOT NULL,
        kind TEXT NOT NULL,
        business_date TEXT NOT NULL,
        occurred_at TEXT NOT NULL,
        recorded_at TEXT NOT NULL,
        task_id TEXT,
        corrects TEXT,
        CONSTRAINT positive_amount CHECK (amount_cents > 0),
        CONSTRAINT known_kind CHECK (kind IN ('fee', 'reward', 'payout', 'fee_reversal', 'reward_reversal')),
        CONSTRAINT payouts_alone_have_no_task CHECK ((kind = 'payout') = (task_id IS NULL)),
        CONSTRAINT reversals_correct CHECK (
            (kind IN ('fee_reversal', 'reward_reversal')) = (corrects IS NOT NULL)
        ),
        UNIQUE (entry_id),
        UNIQUE (event_id),
        FOREIGN KEY (employee_id) REFERENCES billing_accounts (account_id),
        FOREIGN KEY (task_id) REFERENCES billing_tasks (task_id),
        FOREIGN KEY (corrects) REFERENCES billing_entries (entry_id)
    ) STRICT
"""
ENTRY_OBJECTS = (
    "CREATE INDEX billing_entries_statement ON billing_entries (employee_id, business_date)",
    "CREATE INDEX billing_entries_task ON billing_entries (substr(task_id, 29))",
    """
    CREATE UNIQUE INDEX billing_entries_one_payout ON billing_entries (business_date, employee_id)
    WHERE kind = 'payout'
    """,
    "CREATE UNIQUE INDEX billing_entries_corrected ON billing_entries (corrects) WHERE corrects IS NOT NULL",
    """
    CREATE TRIGGER billing_entries_no_update BEFORE UPDATE ON billing_entries
    BEGIN SELECT RAISE(ABORT, 'entries never change'); END
    """,
    """
    CREATE TRIGGER billing_entries_no_delete BEFORE DELETE ON billing_entries
    BEGIN SELECT RAISE(ABORT, 'entries never change'); END
    """,
    """
    CREATE TRIGGER billing_entries_segment AFTER INSERT ON billing_entries WHEN NEW.position % 1024 = 0
    BEGIN
        INSERT INTO billing_segments (employee_id, business_date, segment, change_cents, earned_cents,
            first_recorded_at, last_recorded_at)
        SELECT employee_id, business_date, (position - 1) / 1024,
            sum(CASE WHEN credit_account = employee_id THEN amount_cents ELSE -amount_cents END),
            sum(CASE kind WHEN 'reward' THEN amount_cents WHEN 'reward_reversal' THEN -amount_cents ELSE 0 END),
            min(recorded_at), max(recorded_at)
        FROM billing_entries WHERE position BETWEEN NEW.position - 1023 AND NEW.position GROUP BY 1, 2, 3;
    END
    """,
)
ANALYTICS = """
    CREATE TABLE analytics_tasks (
        task_id TEXT NOT NULL,
        number INTEGER,
        title TEXT,
        reward_cents INTEGER,
        completed_at TEXT,
        business_date TEXT,
        PRIMARY KEY (task_id)
    ) STRICT, WITHOUT ROWID
"""
ANALYTICS_OBJECTS = (
    """
    CREATE INDEX analytics_tasks_dearest ON analytics_tasks (business_date, reward_cents DESC, completed_at, number)
    WHERE business_date IS NOT NULL
    """,
)
# Each table with its statement, its key and its other columns. The entries refer to the prices.
TABLES = (
    ("bus_log", LOG, "sequence", "envelope"),
    ("billing_tasks", PRICES, "task_id", "number, title, fee_cents, reward_cents"),
    (
        "billing_entries",
        ENTRIES,
        "position",
        "entry_id, event_id, employee_id, amount_cents, kind, business_date, occurred_at, recorded_at, task_id,"
        " corrects",
    ),
    ("analytics_tasks", ANALYTICS, "task_id", "number, title, reward_cents, completed_at, business_date"),
)
OBJECTS = (*LOG_OBJECTS, *PRICE_OBJECTS, *ENTRY_OBJECTS, *ANALYTICS_OBJECTS)
OPEN_TASKS = (
    "DROP INDEX tasks_tasks_open",
    "CREATE INDEX tasks_tasks_open ON tasks_tasks (substr(assignee_id, 29)) WHERE status = 'open'",
)


def upgrade() -> None:
    """Apply the migration."""
    for table, *_ in reversed(TABLES):
        for kind, name in _objects_of(table):
            op.execute(f"DROP {kind} {name}")
        op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for table, statement, key, columns in TABLES:
        op.execute(statement)
        _move(table, key, f"{key}, {columns}")
    for table, *_ in reversed(TABLES):
        op.execute(f"DROP TABLE old_{table}")
    for statement in (*OBJECTS, *OPEN_TASKS):
        op.execute(statement)


def _objects_of(table: str) -> Iterable[tuple[str, str]]:
    """Return the kind and name of each index and trigger of a table, except the indexes of its constraints."""
    rows = op.get_bind().exec_driver_sql(
        "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger') AND tbl_name = ? AND sql IS NOT NULL",
        (table,),
    )
    return [(kind, name) for kind, name in rows]


def _move(table: str, key: str, columns: str) -> None:
    """Move the rows of the old table in chunks, so that the new rows use the pages of the old ones."""
    connection = op.get_bind()
    select_last = f"SELECT max({key}) FROM (SELECT {key} FROM old_{table} ORDER BY {key} LIMIT {CHUNK_ROWS}) AS chunk"
    while (last := connection.exec_driver_sql(select_last).scalar()) is not None:
        chunk = f"FROM old_{table} WHERE {key} <= ?"
        connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) SELECT {columns} {chunk} ORDER BY {key}", (last,))
        connection.exec_driver_sql(f"DELETE {chunk}", (last,))
