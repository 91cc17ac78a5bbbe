"""The doctor: every invariant as a named check, on one snapshot."""

import sqlite3
from collections.abc import Callable, Iterator

from msgspec import MsgspecError
from sqlalchemy.exc import DBAPIError

from popug_cli.audit.books import closed_days, draws, entries_as_posted, nothing_passed_over, read_models
from popug_cli.audit.chain import chain, is_part_of_history
from popug_cli.audit.invariants import INVARIANTS, Invariant
from popug_cli.audit.nights import days_to_close, scheduler
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.chain import ORIGIN
from popug_cli.bus.runtime import Context
from popug_cli.bus.status import log_problems
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.company import Check, Health, LedgerProof
from popug_cli.storage.engine import scalar
from popug_cli.storage.faults import place_fault

Examine = Callable[[Context], Check]
# What reading stored data that was damaged may raise; that is what a check is there to find.
DAMAGE = (DBAPIError, sqlite3.Error, MsgspecError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


def examine(context: Context) -> Health:
    """Check everything; a check that cannot be carried out counts as failed."""
    others: list[tuple[str, Examine]] = [
        ("nothing_passed_over", nothing_passed_over),
        ("read_models_equal_rebuild", read_models),
        ("set_aside", _set_aside),
        ("days_to_close", days_to_close),
        ("scheduler", scheduler),
    ]
    checks = list(_carried_out([*_proofs(), *others], context))
    return Health(ok=all(check.ok for check in checks), checks=checks)


def prove(context: Context, head: str | None = None) -> LedgerProof:
    """Check log, ledger and draws; the first thing that is wrong is named, also a head that this history never had."""
    wrong = next((check for check in _carried_out(_proofs(), context) if not check.ok), None)
    told = f"{wrong.name}: {wrong.detail}" if wrong else _unknown_head(context, head)
    return LedgerProof(ok=told is None, head=_head(context), entries=_count_entries(context), first_wrong=told)


def _proofs() -> list[tuple[str, Examine]]:
    """What proves the log, the ledger and the draws, in the order in which one leans on the other."""
    return [
        ("database", _database),
        ("foreign_keys", _foreign_keys),
        ("log_without_gaps", _log),
        ("hash_chain", chain),
        ("entries_equal_events", entries_as_posted),
        *((each.name, _statement(each)) for each in INVARIANTS),
        ("closed_days_without_gaps", closed_days),
        ("draws", draws),
    ]


def _carried_out(examinations: list[tuple[str, Examine]], context: Context) -> Iterator[Check]:
    for number, (name, examination) in enumerate(examinations):
        context.progress("Checking", number, len(examinations))
        yield _guarded(name, examination, context)
    context.progress("Checking", len(examinations), len(examinations))


def _unknown_head(context: Context, head: str | None) -> str | None:
    if head is None or is_part_of_history(context, head.strip().lower()):
        return None
    return f"head: {head} is no part of this history; it was rewritten or cut since, or the head is of another company"


def _head(context: Context) -> str:
    try:
        return context.log.head_hash() or ORIGIN
    except DAMAGE:
        return ORIGIN


def _count_entries(context: Context) -> int:
    try:
        return scalar(context.connection, "SELECT count(*) FROM billing_entries") or 0
    except DAMAGE:
        return 0


def _guarded(name: str, examination: Examine, context: Context) -> Check:
    try:
        return examination(context)
    except PopugError as refusal:
        return Check(name, False, refusal.message)
    except DAMAGE as error:
        fault = place_fault(error, context.home.database)
        told = getattr(error, "orig", error)
        return Check(
            name, False, fault.message if fault else f"it cannot be carried out: {type(told).__name__}: {told}"
        )


def _statement(invariant: Invariant) -> Examine:
    def check(context: Context) -> Check:
        statement = f"SELECT * FROM ({invariant.contradictions}) AS found LIMIT {SHOWN + 1}"
        rows = context.connection.exec_driver_sql(statement).scalars().all()
        return verdict(invariant.name, invariant.holds, [str(row) for row in rows])

    return check


def _database(context: Context) -> Check:
    rows = context.connection.exec_driver_sql(f"PRAGMA integrity_check({SHOWN})").scalars().all()
    return verdict("database", "the file is a sound database", [row for row in rows if row != "ok"])


def _foreign_keys(context: Context) -> Check:
    rows = context.connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    wrong = [f"row {row[1]} of {row[0]}" for row in rows]
    return verdict("foreign_keys", "every reference leads to a row", wrong)


def _log(context: Context) -> Check:
    return verdict("log_without_gaps", f"all positions up to {context.position} are there", list(log_problems(context)))


def _set_aside(context: Context) -> Check:
    return Check("set_aside", True, "; ".join(_counts(context)) or "nothing is set aside")


def _counts(context: Context) -> Iterator[str]:
    rows = context.connection.exec_driver_sql(
        "SELECT consumer, state, count(*) AS held FROM bus_set_aside GROUP BY consumer, state ORDER BY consumer, state"
    )
    for row in rows:
        yield f"{row.held} {row.state} for {row.consumer}"
