"""The doctor: every invariant as a named check, each on one snapshot.

In a large company, checks that spend their time in SQL run in a second thread, because SQLite releases the GIL during
a statement.
"""

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from msgspec import MsgspecError

from popug_cli.audit.attention_checks import (
    dead_hook_letters,
    failed_mail,
    overdue_days,
    parked_events,
    scheduler,
    unknown_versions,
    unsent_mail,
)
from popug_cli.audit.chain_check import chain, event_types, is_part_of_history
from popug_cli.audit.checks_of_services import is_run_by
from popug_cli.audit.cross_module_checks import CROSS_MODULE_INVARIANTS, tasks_as_created
from popug_cli.audit.day_checks import DAY_INVARIANTS, business_dates
from popug_cli.audit.draw_checks import draws_reproducible
from popug_cli.audit.identity_checks import tokens_match_events, users_match_events
from popug_cli.audit.ledger_checks import (
    closed_days,
    entries_as_posted,
    entries_have_causes,
    income_sources_agree,
    no_event_skipped,
    read_models,
)
from popug_cli.audit.log_pass import StartCheck, run_log_checks
from popug_cli.audit.parallel import CheckFunction, parallel_checks
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result, health_of
from popug_cli.audit.sql_invariants import INVARIANTS, Invariant
from popug_cli.audit.stream_checks import (
    is_service,
    received_events_match_log,
    stream_gaps,
    stream_histories,
    streams_match_log,
)
from popug_cli.audit.summaries import read_from_summaries
from popug_cli.audit.token_checks import keys_match_events, news_of_identity, token_copies_match_events
from popug_cli.bus.context import Context
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.bus.status import log_problems
from popug_cli.bus.unlinked_events import first_sentences, problems_of_unlinked
from popug_cli.identity.published_keys import SIGNING_SERVICES
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.progress import no_progress
from popug_cli.messages.company import Check, Health, LedgerProof
from popug_cli.storage.errors import DATABASE_ERRORS, environment_error
from popug_cli.storage.migrate import NEWEST
from popug_cli.storage.schema import SELECT_OBJECTS, differences

DATABASE_CHECK = "database"
PROGRESS_UNITS_PER_CHECK = 1_000
PROGRESS_POLL_SECONDS = 0.2
# The errors that reading damaged data may raise. A check reports them, because damage is what it looks for.
CORRUPTION_ERRORS = (
    *DATABASE_ERRORS,
    MsgspecError,
    ArithmeticError,
    AssertionError,
    LookupError,
    TypeError,
    ValueError,
)
RUN_ERRORS = (PopugError, *CORRUPTION_ERRORS)


class RunIn(IntEnum):
    """Where a check runs in a large company; checks are submitted to the thread in this order."""

    MAIN = 0
    THREAD_WITH_SUMMARIES = 1
    THREAD = 2
    EITHER = 3


class NamedCheck(NamedTuple):
    """A named check. The thread runs checks that spend their time in SQL; only there may a check read summaries."""

    name: str
    check: CheckFunction
    run_in: RunIn = RunIn.MAIN


class NamedLogCheck(NamedTuple):
    """A named check that needs every event of the log."""

    name: str
    start: StartCheck


AnyCheck = NamedCheck | NamedLogCheck


def examine(context: Context, *, is_file_checked: bool = False) -> Health:
    """Run all checks; a check that cannot run counts as failed. Leave out that of the file if it ``is_file_checked``.

    Raise ``Unavailable`` if the machine, and not the company's data, prevents a check.
    """
    other_checks: list[AnyCheck] = [
        *(_service_checks() if is_service(context) else ()),
        NamedCheck("schema", _schema),
        *_identity_checks(context.service),
        NamedCheck("no_event_skipped", no_event_skipped, RunIn.EITHER),
        NamedLogCheck("read_models_match_replay", read_models),
        NamedCheck("parked_events", parked_events),
        NamedCheck("unknown_versions", unknown_versions),
        NamedCheck("unlinked_events", _unlinked_events),
        NamedCheck("overdue_days", overdue_days),
        NamedCheck("scheduler", scheduler),
        NamedCheck("failed_mail", failed_mail),
        NamedCheck("unsent_mail", unsent_mail),
        NamedCheck("dead_hook_letters", dead_hook_letters),
    ]
    proof_checks = [check for check in _proof_checks() if not (is_file_checked and check.name == DATABASE_CHECK)]
    checks = [check for check in (*proof_checks, *other_checks) if is_run_by(context.service, check.name)]
    return health_of(_run_all(checks, context), _head(context))


def _identity_checks(service: str) -> list[NamedCheck]:
    """Return the checks of identity's tables or, in a service that does not have them, of its copies."""
    if service in SIGNING_SERVICES:
        return [
            NamedCheck("users_match_events", users_match_events),
            NamedCheck("tokens_match_events", tokens_match_events),
            NamedCheck("keys_match_events", keys_match_events),
        ]
    return [
        NamedCheck("token_copies_match_events", token_copies_match_events),
        NamedCheck("news_of_identity", news_of_identity),
    ]


def prove(context: Context, head: str | None = None) -> LedgerProof:
    """Check the file, the log, the ledger and the draws; return the first violation, and whether ``head`` is unknown.

    Raise ``Unavailable`` if the machine, and not the company's data, prevents a check.
    """
    failed = next((check for check in _run_all(_proof_checks(), context) if not check.ok), None)
    problems = (f"{failed.name}: {failed.detail}" if failed else None, _head_problem(context, head))
    violations = "; ".join(problem for problem in problems if problem) or None
    return LedgerProof(
        ok=violations is None, head=_head(context), entries=_count_entries(context), first_wrong=violations
    )


def _service_checks() -> list[AnyCheck]:
    """Return the checks of a service's streams and of its relay."""
    return [
        NamedCheck("streams_match_log", streams_match_log),
        NamedLogCheck("received_events_match_log", received_events_match_log),
        NamedCheck("stream_gaps", stream_gaps),
        NamedCheck("stream_histories", stream_histories),
    ]


def _proof_checks() -> list[AnyCheck]:
    """Return the checks of ``prove``, ordered so that each relies on earlier ones only."""
    return [
        NamedCheck(DATABASE_CHECK, _database, RunIn.THREAD),
        NamedCheck("foreign_keys", _foreign_keys, RunIn.EITHER),
        NamedCheck("log_without_gaps", _log),
        NamedLogCheck("hash_chain", chain),
        NamedLogCheck("entries_match_events", entries_as_posted),
        NamedCheck("entry_causes_exist", entries_have_causes, RunIn.EITHER),
        NamedLogCheck("event_types_match_envelopes", event_types),
        *(
            NamedCheck(
                invariant.name,
                _check_of(invariant),
                RunIn.THREAD_WITH_SUMMARIES if invariant.reads_summaries else RunIn.EITHER,
            )
            for invariant in (*INVARIANTS, *CROSS_MODULE_INVARIANTS, *DAY_INVARIANTS)
        ),
        NamedLogCheck("income_sources_agree", income_sources_agree),
        NamedLogCheck("tasks_match_events", tasks_as_created),
        NamedCheck("closed_days_without_gaps", closed_days),
        NamedLogCheck("business_dates_follow_ends", business_dates),
        NamedLogCheck("draws_reproducible", draws_reproducible),
    ]


def _run_all(named_checks: Sequence[AnyCheck], context: Context) -> list[Check]:
    """Run the checks, partly in a thread, and return the results in the order of ``named_checks``.

    This thread reads the log. After its other checks, it takes over checks that may run in either thread, from the last
    to the first. It leaves those that the other thread has begun.
    """
    results: dict[str, Check] = {}
    log_checks = {
        named_check.name: named_check.start for named_check in named_checks if isinstance(named_check, NamedLogCheck)
    }
    ordered = sorted(
        (named_check for named_check in named_checks if isinstance(named_check, NamedCheck)),
        key=lambda named_check: named_check.run_in,
    )
    with parallel_checks(context) as submit:
        running = {
            named_check: submit(partial(_run_safely, named_check))
            for named_check in ordered
            if named_check.run_in is not RunIn.MAIN
        }

        def report(done: float) -> None:
            in_thread = sum(check.done() and not check.cancelled() for check in running.values())
            checks_done = in_thread + len(results) + done
            context.progress(
                "Checking", int(PROGRESS_UNITS_PER_CHECK * checks_done), PROGRESS_UNITS_PER_CHECK * len(named_checks)
            )

        def report_log(label: str, done: int, total: int) -> None:
            report(len(log_checks) * done / max(total, 1))

        results |= run_log_checks(
            log_checks, replace(context, progress=report_log), RUN_ERRORS, partial(_result_of_error, context)
        )
        main_checks = [named_check for named_check in ordered if named_check.run_in is RunIn.MAIN]
        for named_check in (
            *main_checks,
            *reversed([named_check for named_check in ordered if named_check.run_in is RunIn.EITHER]),
        ):
            report(0)
            if named_check.run_in is RunIn.MAIN or running[named_check].cancel():
                results[named_check.name] = _run_safely(named_check, replace(context, progress=no_progress))
        while wait(running.values(), timeout=PROGRESS_POLL_SECONDS).not_done:
            report(0)
    results |= {named_check.name: check.result() for named_check, check in running.items() if not check.cancelled()}
    return [results[named_check.name] for named_check in named_checks]


def _head_problem(context: Context, head: str | None) -> str | None:
    """Return why ``head`` is not a hash of this company's chain, or None."""
    try:
        if head is None or is_part_of_history(context, head.strip().lower()):
            return None
    except CORRUPTION_ERRORS:
        return f"head: {head} cannot be checked, because the links cannot be read"
    return (
        f"head: {head} is not part of this history; the history was rewritten or cut since, or the head is that of"
        " another company"
    )


def _head(context: Context) -> str:
    try:
        return context.log.head_hash() or GENESIS_HASH
    except CORRUPTION_ERRORS:
        return GENESIS_HASH


def _count_entries(context: Context) -> int:
    try:
        return context.connection.scalar("SELECT count(*) FROM billing_entries") or 0
    except CORRUPTION_ERRORS:
        return 0


def _run_safely(named_check: NamedCheck, context: Context) -> Check:
    try:
        return named_check.check(context)
    except RUN_ERRORS as error:
        return _result_of_error(context, named_check.name, error)


def _result_of_error(context: Context, name: str, error: Exception) -> Check:
    """Return the result of a check that raised an error; raise ``Unavailable`` if the machine is the cause."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, PopugError):
        return Check(name, False, error.message)
    environment_fault = environment_error(error, context.home.database)
    if isinstance(environment_fault, Unavailable):
        raise environment_fault from error
    cause = getattr(error, "orig", error)
    return Check(
        name,
        False,
        environment_fault.message if environment_fault else f"the check cannot run: {type(cause).__name__}: {cause}",
    )


def _check_of(invariant: Invariant) -> CheckFunction:
    def check(context: Context) -> Check:
        select_violations = read_from_summaries(invariant.select_violations, context)
        statement = f"SELECT * FROM ({select_violations}) AS violations LIMIT {MAX_SHOWN_VIOLATIONS + 1}"
        rows = context.connection.column(statement)
        return check_result(invariant.name, invariant.statement, [str(row) for row in rows])

    return check


def _database(context: Context) -> Check:
    rows = context.connection.column(f"PRAGMA integrity_check({MAX_SHOWN_VIOLATIONS})")
    return check_result(DATABASE_CHECK, "the file is a valid SQLite database", [row for row in rows if row != "ok"])


def _schema(context: Context) -> Check:
    """Check tables, indexes, triggers and views: a trigger of another program may undo what a command does."""
    violations = list(differences(context.connection.select(SELECT_OBJECTS), NEWEST))
    versions = context.connection.column("SELECT version_num FROM alembic_version")
    if versions != [NEWEST]:
        violations.append(f"the recorded version is {', '.join(sorted(versions))}, not {NEWEST}")
    return check_result("schema", "tables, indexes and triggers are those of a fresh database", violations)


def _foreign_keys(context: Context) -> Check:
    rows = context.connection.select("PRAGMA foreign_key_check")
    violations = [f"row {row[1]} of {row[0]}" for row in rows]
    return check_result("foreign_keys", "every foreign key refers to an existing row", violations)


def _log(context: Context) -> Check:
    return check_result(
        "log_without_gaps", f"the log has all positions up to {context.position}", list(log_problems(context))
    )


def _unlinked_events(context: Context) -> Check:
    """Report problems of events that other programs inserted; never fail, because an event needs no link."""
    problems = " ".join(first_sentences(problems_of_unlinked(context)))
    return Check("unlinked_events", True, problems or "no unlinked event has a problem", attention=bool(problems))
