"""Run checks in a second thread, with its own connection and snapshot, in a large company."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from popug_cli.audit.summaries import fill_summaries
from popug_cli.bus.context import Context
from popug_cli.bus.log import Log
from popug_cli.kernel.progress import no_progress
from popug_cli.messages.company import Check
from popug_cli.storage.sqlite import SqliteDatabase

MIN_LARGE_COMPANY_EVENTS = 20_000
CACHE_KIB = 32_768

CheckFunction = Callable[[Context], Check]
SubmitCheck = Callable[[CheckFunction], "Future[Check]"]


@contextmanager
def parallel_checks(context: Context) -> Iterator[SubmitCheck]:
    """Yield a function that submits a check to a thread, or runs it at once if the company is not large.

    The thread first fills the tables of summaries, then runs the checks one after the other. SQLite releases the GIL
    during a statement, so that the caller can work in parallel. Checks that are not done at the end are cancelled or
    interrupted.
    """
    if context.position < MIN_LARGE_COMPANY_EVENTS:
        yield lambda check: _finished(check(context))
        return
    _enlarge_cache(context)
    database = SqliteDatabase(context.home.database)
    with database.transaction(writes=False) as connection, ThreadPoolExecutor(1) as pool:
        log = Log(connection)
        parallel_context = replace(
            context, connection=connection, log=log, position=log.last_position(), progress=no_progress
        )
        _enlarge_cache(parallel_context)
        try:
            pool.submit(fill_summaries, parallel_context)
            yield lambda check: pool.submit(check, parallel_context)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            connection.interrupt()
    database.close()


def _finished(result: Check) -> "Future[Check]":
    future: Future[Check] = Future()
    future.set_result(result)
    return future


def _enlarge_cache(context: Context) -> None:
    """Enlarge the page cache, because rows read in the order of an index are scattered over a large file."""
    context.connection.enlarge_cache(CACHE_KIB)
