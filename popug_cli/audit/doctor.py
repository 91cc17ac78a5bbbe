"""The doctor: every invariant as a named check, each on one snapshot.

What is SQL alone runs beside the rest where the company is large: SQLite works while Python does.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from msgspec import MsgspecError
from sqlalchemy.exc import DBAPIError

from popug_cli.audit.agreements import AGREEMENTS, tasks_as_created
from popug_cli.audit.beside import beside
from popug_cli.audit.books import closed_days, entries_as_posted, entries_have_causes, nothing_passed_over, read_models
from popug_cli.audit.chain import chain, is_part_of_history
from popug_cli.audit.draws import draws
from popug_cli.audit.invariants import INVARIANTS, Invariant
from popug_cli.audit.nights import days_to_close, scheduler
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.chain import ORIGIN
from popug_cli.bus.outside import first_few, oddities
from popug_cli.bus.runtime import Context
from popug_cli.bus.status import log_problems
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.company import Check, Health, LedgerProof
from popug_cli.storage.engine import scalar
from popug_cli.storage.faults import place_fault

Examine = Callable[[Context], Check]
STEPS = 1_000
WAIT_SECONDS = 0.2
# What reading stored data that was damaged may raise; that is what a check is there to find.
DAMAGE = (DBAPIError, sqlite3.Error, MsgspecError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


class Where(IntEnum):
    """Where a check is carried out, in the order of their beginning beside the others."""

    HERE = 0
    BESIDE = 1
    BESIDE_WITH_FACTS = 2
    ANYWHERE = 3


class Examination(NamedTuple):
    """A named check; what is SQL alone may run beside the others, and what reads facts only where they are."""

    name: str
    check: Examine
    where: Where = Where.HERE


def examine(context: Context) -> Health:
    """Check everything; a check that cannot be carried out counts as failed.

    Raises ``Unavailable`` where the machine, and not the company, is what keeps a check from being carried out.
    """
    others = [
        Examination("nothing_passed_over", nothing_passed_over, Where.ANYWHERE),
        Examination("read_models_equal_rebuild", read_models),
        Examination("set_aside", _set_aside),
        Examination("appended_from_outside", _outside),
        Examination("days_to_close", days_to_close),
        Examination("scheduler", scheduler),
    ]
    checks = _carried_out([*_proofs(), *others], context)
    return Health(ok=all(check.ok for check in checks), checks=checks, head=_head(context))


def prove(context: Context, head: str | None = None) -> LedgerProof:
    """Check log, ledger and draws; the first thing that is wrong is named, also a head that this history never had."""
    wrong = next((check for check in _carried_out(_proofs(), context) if not check.ok), None)
    found = (f"{wrong.name}: {wrong.detail}" if wrong else None, _unknown_head(context, head))
    told = "; ".join(each for each in found if each) or None
    return LedgerProof(ok=told is None, head=_head(context), entries=_count_entries(context), first_wrong=told)


def _proofs() -> list[Examination]:
    """What proves the log, the ledger and the draws, in the order in which one leans on the other."""
    return [
        Examination("database", _database, Where.BESIDE),
        Examination("foreign_keys", _foreign_keys, Where.ANYWHERE),
        Examination("log_without_gaps", _log),
        Examination("hash_chain", chain),
        Examination("entries_equal_events", entries_as_posted),
        Examination("every_entry_has_its_cause", entries_have_causes, Where.ANYWHERE),
        *(
            Examination(each.name, _statement(each), Where.BESIDE_WITH_FACTS if each.reads_facts else Where.ANYWHERE)
            for each in (*INVARIANTS, *AGREEMENTS)
        ),
        Examination("tasks_equal_events", tasks_as_created),
        Examination("closed_days_without_gaps", closed_days),
        Examination("draws", draws),
    ]


def _carried_out(examinations: Sequence[Examination], context: Context) -> list[Check]:
    """The checks in their order; some run beside the others, and whatever has not begun by the end is done here."""
    answers: dict[str, Check] = {}
    with beside(context) as begin:
        by_place = sorted(examinations, key=lambda each: each.where)
        running = {each: begin(partial(_guarded, each)) for each in by_place if each.where is not Where.HERE}

        def report(label: str, done: int, total: int) -> None:
            steps = sum(check.done() for check in running.values()) + len(answers) + done / max(total, 1)
            context.progress("Checking", int(STEPS * steps), STEPS * len(examinations))

        here = [each for each in by_place if each.where is Where.HERE]
        for each in (*here, *reversed([each for each in by_place if each.where is Where.ANYWHERE])):
            report(each.name, 0, 1)
            if each.where is Where.HERE or running[each].cancel():
                answers[each.name] = _guarded(each, replace(context, progress=report))
        while wait(running.values(), timeout=WAIT_SECONDS).not_done:
            report("", 0, 1)
    return [answers.get(each.name) or running[each].result() for each in examinations]


def _unknown_head(context: Context, head: str | None) -> str | None:
    try:
        if head is None or is_part_of_history(context, head.strip().lower()):
            return None
    except DAMAGE:
        return f"head: the links that could tell of {head} cannot be read"
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


def _guarded(examination: Examination, context: Context) -> Check:
    name = examination.name
    try:
        return examination.check(context)
    except Unavailable:
        raise
    except PopugError as refusal:
        return Check(name, False, refusal.message)
    except DAMAGE as error:
        fault = place_fault(error, context.home.database)
        if isinstance(fault, Unavailable):
            raise fault from error
        told = getattr(error, "orig", error)
        return Check(
            name, False, fault.message if fault else f"it cannot be carried out: {type(told).__name__}: {told}"
        )


def _statement(invariant: Invariant) -> Examine:
    def check(context: Context) -> Check:
        statement = f"SELECT * FROM ({invariant.statement(context)}) AS found LIMIT {SHOWN + 1}"
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


def _outside(context: Context) -> Check:
    """What was appended from outside is an event like any other, and no failure however odd it is."""
    return Check("appended_from_outside", True, " ".join(first_few(oddities(context))) or "nothing odd was appended")


def _counts(context: Context) -> Iterator[str]:
    rows = context.connection.exec_driver_sql(
        "SELECT consumer, state, count(*) AS held FROM bus_set_aside GROUP BY consumer, state ORDER BY consumer, state"
    )
    for row in rows:
        yield f"{row.held} {row.state} for {row.consumer}"
