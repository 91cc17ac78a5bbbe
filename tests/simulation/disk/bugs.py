"""Bugs that only a disk brings to light, beside some that the simulation knows."""

from textwrap import indent

from tests.simulation.bugs import BUGS, Bug, Change

COMMIT_AMIDST = (
    "    context.events.close_link()\n"
    "    from popug_cli.storage.engine import raw_connection\n\n"
    '    raw_connection(context.connection).execute("COMMIT")\n'
    '    raw_connection(context.connection).execute("BEGIN IMMEDIATE")\n'
)

DISK_BUGS: dict[str, Bug] = {
    "second-transaction": BUGS["cursor-first"]._replace(
        what="the cursor is moved in one transaction, effects in another"
    ),
    "no-outbox": BUGS["no-outbox"],
    "no-inbox": BUGS["no-inbox"],
    "early-acknowledgement": Bug(
        "the answer is printed before the commit",
        (
            Change(
                "storage/engine.py",
                '        driver.execute("COMMIT")\n',
                '        if connection.get_execution_options().get("popug_writes"):\n'
                "            import sys\n\n"
                '            sys.stdout.write("{}\\n")\n'
                "            sys.stdout.flush()\n"
                '        driver.execute("COMMIT")\n',
            ),
        ),
    ),
    "close-twice": Bug(
        "a day is closed in two transactions, so that it can be closed by one and paid by the other",
        (
            Change(
                "billing/closing.py",
                "    _pay(totals.payees, day, context)\n",
                f"    _pay(totals.payees, day, context)\n{COMMIT_AMIDST}",
            ),
        ),
    ),
    "chunked-shuffle": Bug(
        "a shuffle commits what it has before it goes on",
        (
            Change("bus/consumers.py", "        with context.connection.begin_nested():\n", "        if True:\n"),
            Change(
                "tasks/assignments.py",
                "        insert_many(context.connection, UPDATE_ASSIGNEE, drawn)\n",
                f"        insert_many(context.connection, UPDATE_ASSIGNEE, drawn)\n{indent(COMMIT_AMIDST, ' ' * 4)}",
            ),
        ),
    ),
    "synchronous-normal": Bug(
        "a commit is not synced",
        (Change("storage/engine.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),),
    ),
    "mail-marked-first": Bug(
        "a mail is marked as sent before its file and name are synced",
        (
            Change("mail/transport.py", "        os.fsync(opened.fileno())\n", ""),
            Change("mail/transport.py", "                os.fsync(descriptor)\n", "                pass\n"),
        ),
    ),
    "key-unsynced": Bug(
        "a key is written without a sync",
        (
            Change("kernel/home.py", "    os.fsync(file.fileno())\n", ""),
            Change("kernel/home.py", "                disk.sync_directory(path.parent)\n", ""),
        ),
    ),
    "names-unsynced": Bug(
        "a file is replaced without a sync of its directory",
        (Change("kernel/home.py", "                disk.sync_directory(path.parent)\n", ""),),
    ),
    "refused-and-there": Bug(
        "a commit whose sync failed is left where the next process finds it",
        (Change("storage/engine.py", "    try:\n        busy, *_", "    return True\n    try:\n        busy, *_"),),
    ),
    "deferred-write": Bug(
        "a write takes no turn, and its lock only when it first writes, on a snapshot that may be old by then",
        (
            Change("storage/engine.py", '"BEGIN IMMEDIATE"', '"BEGIN"'),
            Change(
                "storage/engine.py",
                "queue.acquire(database, identity, while_waiting) if may_write(connection) else ",
                "",
            ),
        ),
    ),
    "torn-entry": Bug(
        "balances are moved in one transaction and entries written in the next",
        (
            Change("bus/consumers.py", "        with context.connection.begin_nested():\n", "        if True:\n"),
            Change(
                "billing/ledger.py",
                "    _move_accounts(entries, context)\n",
                f"    _move_accounts(entries, context)\n{COMMIT_AMIDST}",
            ),
        ),
    ),
    "half-done-refused": Bug(
        "a command that met a fault after its first transaction is told to have changed nothing",
        (
            Change(
                "app/local.py",
                "if self._has_changed and isinstance(error, Unavailable) and error.code in FAULTS:",
                "if False:",
            ),
        ),
    ),
    "key-left-behind": Bug(
        "a key signs though its rotation was rolled back",
        (Change("kernel/home.py", "        _restore(backup, path)\n        raise\n", "        raise\n"),),
    ),
    "full-disk-misnamed": Bug(
        "a full disk is only called a failure",
        (Change("storage/faults.py", "    if probe_errno in NO_SPACE:\n        return disk_full(database)\n", ""),),
    ),
}
