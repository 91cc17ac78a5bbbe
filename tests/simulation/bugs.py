"""Bugs planted in a copy of the program, to show that the simulation finds them."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

PROGRAM = Path(__file__).parents[2] / "popug_cli"
COMMIT_AMIDST = (
    "    context.events.close_link()\n"
    '    context.connection.execute("COMMIT")\n'
    '    context.connection.execute("BEGIN IMMEDIATE")\n'
)


class Change(NamedTuple):
    """A text that occurs exactly once in a file of the program, and its replacement."""

    file: str
    old: str
    new: str


class Bug(NamedTuple):
    """A bug: its description, and the changes that plant it."""

    what: str
    changes: tuple[Change, ...]


BUGS = {
    "no-inbox": Bug(
        "what was done is not remembered, so that a redelivery does it again",
        (Change("bus/inbox.py", "    if not rows:\n        return set()\n", "    return set()\n"),),
    ),
    "cursor-first": Bug(
        "the cursor is moved and committed before the effects",
        (
            Change(
                "bus/consumers.py",
                "            failures += _process(consumer, known, context.at_position(reached), process,"
                " is_all_new=is_all_new)\n"
                "        advance(context, consumer.name, cursor, reached)\n"
                "        skip_unrelated(context, all_consumers)\n"
                "        return Turn(failures, reached == context.position, context.events.types)\n",
                "        advance(context, consumer.name, cursor, reached)\n"
                "    with runtime.writing(ANONYMOUS) as context:\n"
                "        _process(consumer, known, context.at_position(reached), process, is_all_new=is_all_new)\n"
                "        return Turn(0, True, context.events.types)\n",
            ),
        ),
    ),
    "price-redrawn": Bug(
        "a task that has a price is priced again when a later batch tells of it",
        (
            Change(
                "billing/prices.py",
                "    prices = prices_of(first_events, context)\n",
                "    prices = prices_of([], context)\n",
            ),
        ),
    ),
    "key-order": Bug(
        "what comes later for a subject does not wait behind what failed",
        (
            Change(
                "bus/consumers.py",
                "    blocked = parked_events.blocked_subjects(context, consumer.name)\n",
                "    blocked: set[str] = set()\n",
            ),
            Change("bus/consumers.py", "            blocked.add(subject)\n", ""),
        ),
    ),
    "no-outbox": Bug(
        "events are written in a second transaction, after that of the change",
        (
            Change(
                "bus/context.py",
                "                yield context\n"
                "                last = context.events.last_position\n"
                "                if last >= 0:\n"
                "                    connection.decide_commit_by(SELECT_OWN_LINK, last, context.events.close_link())\n",
                "                yield context\n"
                "                last = context.events.last_position\n"
                "            with self.database.write_transaction() as (connection, on_rollback):\n"
                "                context.events._connection = connection\n"
                "                context.events.close_link()\n",
            ),
        ),
    ),
    "early-acknowledgement": Bug(
        "a command answers before its commit, whatever becomes of that",
        (
            Change(
                "app/local_backend.py",
                "            with self.runtime.writing(principal) as context:\n"
                "                self._was_caught_up = are_current(context, self.consumers)\n"
                "                if consumer is None or self._was_caught_up or is_current(context, consumer):\n"
                "                    authorize(principal, declaration, message, context)\n"
                "                    self.before_write(context)\n"
                "                    result = handle(context)\n"
                "                    self.on_write(context, result)\n"
                "                    skip_unrelated(context, self.consumers)\n"
                "                    return result\n",
                "            answers: list[Answer] = []\n"
                "            try:\n"
                "                with self.runtime.writing(principal) as context:\n"
                "                    if consumer is None or is_current(context, consumer):\n"
                "                        answers.append(handle(context))\n"
                "            except BaseException:\n"
                "                if not answers:\n"
                "                    raise\n"
                "            if answers:\n"
                "                return answers[0]\n",
            ),
        ),
    ),
    "swallowed-error": Bug(
        "an event that a consumer fails on is logged away and counts as done",
        (
            Change(
                "bus/consumers.py",
                "        return error if event is None else _try_to_give_up(consumer, event, error, context)\n",
                "        return None\n",
            ),
        ),
    ),
    "late-into-closed-day": Bug(
        "an event that arrives late is entered under its own date, though that day is closed",
        (
            Change(
                "billing/days.py",
                "        return business_date(event.business_date or date_of(event.time), first)\n",
                "        return event.business_date or date_of(event.time)\n",
            ),
        ),
    ),
    "dated-into-ended-day": Bug(
        "what tasks does after a day has ended still counts for that day",
        (
            Change(
                "tasks/days.py",
                "    return today if last is None or last < today else context.calendar.next_day(last)\n",
                "    return today\n",
            ),
        ),
    ),
    "retry-out-of-order": Bug(
        "a retry goes on behind a failure instead of stopping there",
        (
            Change(
                "bus/consumers.py",
                "            parked_events.record_failure(context, item, error)\n            return 1\n",
                "            parked_events.record_failure(context, item, error)\n            continue\n",
            ),
        ),
    ),
    "given-up-done-again": Bug(
        "a dead letter that was given up is done when it is delivered again",
        (
            Change(
                "bus/inbox.py",
                "    return (_within(ranges, [row[0] for row in rows]) if ranges else set()) | set(dropped)\n",
                "    return _within(ranges, [row[0] for row in rows]) if ranges else set()\n",
            ),
        ),
    ),
}


@contextmanager
def planted(name: str, bugs: Mapping[str, Bug] = BUGS) -> Iterator[None]:
    """Make ``popug_cli`` a copy with that bug; nothing of it may have been imported before."""
    assert "popug_cli" not in sys.modules, "the sound program is imported already"
    with tempfile.TemporaryDirectory(prefix="popug-bug-") as directory:
        copy = Path(directory) / "popug_cli"
        shutil.copytree(PROGRAM, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for change in bugs[name].changes:
            plant(copy / change.file, change)
        sys.path.insert(0, directory)
        try:
            yield
        finally:
            sys.path.remove(directory)


def plant(file: Path, change: Change) -> None:
    """Make one change; raise if its text is not in the program any more."""
    text = file.read_text(encoding="utf-8")
    if text.count(change.old) != 1:
        raise LookupError(f"{change.file} has the text of a planted bug {text.count(change.old)} times: {change.old!r}")
    file.write_text(text.replace(change.old, change.new), encoding="utf-8")


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
                "storage/sqlite.py",
                '            driver.execute("COMMIT")\n',
                "            if self.writes:\n"
                "                import sys\n\n"
                '                sys.stdout.write("{}\\n")\n'
                "                sys.stdout.flush()\n"
                '            driver.execute("COMMIT")\n',
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
            Change("bus/consumers.py", "        with context.connection.savepoint():\n", "        if True:\n"),
            Change(
                "tasks/assignments.py",
                "        context.connection.insert_many(UPDATE_ASSIGNEE, assignees)\n",
                f"        context.connection.insert_many(UPDATE_ASSIGNEE, assignees)\n{indent(COMMIT_AMIDST, ' ' * 4)}",
            ),
        ),
    ),
    "synchronous-off": Bug(
        "a commit is not synced",
        (Change("storage/sqlite.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=OFF"),),
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
            Change("platform/files.py", "    os.fsync(file.fileno())\n", ""),
            Change("platform/files.py", "    sync_directory(target.parent)\n", ""),
        ),
    ),
    "names-unsynced": Bug(
        "a file is replaced without a sync of its directory",
        (Change("platform/files.py", "    sync_directory(target.parent)\n", ""),),
    ),
    "refused-and-there": Bug(
        "a commit whose sync failed is left where the next process finds it",
        (Change("storage/sqlite.py", "    try:\n        busy, *_", "    return True\n    try:\n        busy, *_"),),
    ),
    "deferred-write": Bug(
        "a write takes no turn, and its lock only when it first writes, on a snapshot that may be old by then",
        (
            Change("storage/sqlite.py", '"BEGIN IMMEDIATE"', '"BEGIN"'),
            Change(
                "storage/sqlite.py",
                "write_lock.acquire(database.path, database.identity, database.while_waiting)\n"
                "            if self.writes\n            else nullcontext(),\n",
                "nullcontext(),\n",
            ),
        ),
    ),
    "torn-entry": Bug(
        "balances are moved in one transaction and entries written in the next",
        (
            Change("bus/consumers.py", "        with context.connection.savepoint():\n", "        if True:\n"),
            Change(
                "billing/ledger.py",
                "    _update_accounts(changes, context)\n",
                f"    _update_accounts(changes, context)\n{COMMIT_AMIDST}",
            ),
        ),
    ),
    "half-done-refused": Bug(
        "a command that met a fault after its first transaction reports that nothing was changed",
        (
            Change(
                "app/local_backend.py",
                "if self._has_changed and isinstance(error, PopugError) and error.code in ENVIRONMENT_CODES:",
                "if False:",
            ),
        ),
    ),
    "key-left-behind": Bug(
        "a key signs though its rotation was rolled back",
        (Change("kernel/home.py", "            _restore(backup, target)\n            raise\n", "            raise\n"),),
    ),
    "full-disk-misnamed": Bug(
        "a full disk is only called a failure",
        (Change("storage/errors.py", "    if probe_errno in NO_SPACE:\n        return disk_full(database)\n", ""),),
    ),
}
