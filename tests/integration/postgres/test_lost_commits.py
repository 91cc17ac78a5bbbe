"""A connection ends before, in or after a commit: the command is done once, and says so."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.tasks import AddTask, ListTasks
from popug_cli.storage.errors import TransactionLost
from popug_cli.storage.postgres import commit, session
from tests.support.postgres.proxy import AnswerLosingProxy
from tests.support.postgres.replicated import ReplicatedCompany
from tests.support.postgres.server import HOST, OWNER
from tests.support.running_server import eventually

PATIENCE_SECONDS = 120
FEED = AddTask(title="Feed the cage")
SYNC_WAIT = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
COUNT = "SELECT count(*) FROM tasks_tasks"


def tasks(company: ReplicatedCompany) -> int:
    ((count,),) = company.primary.execute(COUNT, database=company.database)
    return int(count)


@contextmanager
def hooked(monkeypatch: pytest.MonkeyPatch, at: str, act: Callable[[psycopg.Connection], None]) -> Iterator[list[int]]:
    """Call ``act`` once, before or after the first commit of a write transaction that published events."""
    done: list[int] = []
    original = commit.try_commit

    def try_commit(driver: session.Driver, timeout_seconds: float) -> bool:
        is_first = (
            not done and driver.execute("SELECT 1 FROM bus_links WHERE xmin = pg_current_xact_id()::xid").fetchone()
        )
        if is_first:
            done.append(driver.info.backend_pid)
        if is_first and at == "before":
            act(driver)
        result = original(driver, timeout_seconds)
        if is_first and at == "after":
            act(driver)
            driver.execute("SELECT 1")  # the client notices only now
        return result

    with monkeypatch.context() as patch:
        patch.setattr(commit, "try_commit", try_commit)
        yield done


@pytest.mark.parametrize("at", ["before", "after"])
def test_session_ended_around_the_commit(
    replicated: ReplicatedCompany, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def end(driver: psycopg.Connection) -> None:
        replicated.primary.execute("SELECT pg_terminate_backend(%s)", driver.info.backend_pid)

    backend = replicated.backend()
    with hooked(monkeypatch, at, end) as done:
        assert backend.perform(FEED, replicated.tokens["ada"]).number == 1
    assert done
    assert tasks(replicated) == 1
    backend.close()


@pytest.mark.parametrize("before_server", [True, False])
def test_answer_to_commit_lost_by_a_proxy(replicated: ReplicatedCompany, *, before_server: bool) -> None:
    with AnswerLosingProxy(replicated.primary.port, before_server=before_server) as proxy:
        replicated.configure(f"postgresql://{OWNER}@{HOST}:{proxy.port}/{replicated.database}")
        backend = replicated.backend()
        for number in range(1, 6):
            proxy.armed.set()
            assert backend.perform(FEED, replicated.tokens["ada"]).number == number
        assert proxy.lost_count == 5
        assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 5
        backend.close()


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_wait_for_the_standby_ended(replicated: ReplicatedCompany, end: str) -> None:
    """The commit is on the primary only; it is acknowledged when the standby has it as well."""
    replicated.be_synchronous()
    backend = replicated.backend()
    backend.perform(FEED, replicated.tokens["ada"])
    replicated.standby.signal_all(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(backend.perform, FEED, replicated.tokens["ada"])
        eventually(lambda: replicated.primary.execute(SYNC_WAIT))
        replicated.primary.execute(SYNC_WAIT.replace("pid", f"{end}(pid)", 1))
        eventually(lambda: tasks(replicated) == 2)
        time.sleep(1)
        assert not answer.done()
        replicated.standby.signal_all(signal.SIGCONT)
        assert answer.result(PATIENCE_SECONDS).number == 2
    assert tasks(replicated) == 2
    backend.close()


def test_commit_without_standby_is_in_doubt(replicated: ReplicatedCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that waits for a standby that does not return is in doubt; later commands say that nothing was done."""
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 1.0)
    monkeypatch.setattr(commit, "DECISION_SECONDS", 2.0)
    monkeypatch.setattr(session, "SESSION_SETTINGS", session.SESSION_SETTINGS.replace("'30s'", "'1s'"))
    replicated.be_synchronous()
    first, second = replicated.backend(), replicated.backend()
    for backend in (first, second):
        backend.perform(ListTasks(), replicated.tokens["ada"])
    replicated.standby.signal_all(signal.SIGSTOP)
    with pytest.raises(Unavailable) as raised:
        first.perform(FEED, replicated.tokens["ada"])
    assert (raised.value.code, raised.value.exit_status) == ("in_doubt", 8)
    with pytest.raises(Unavailable) as raised:
        second.perform(FEED, replicated.tokens["ada"])
    assert raised.value.code == "database_busy"
    replicated.standby.signal_all(signal.SIGCONT)
    eventually(lambda: tasks(replicated) == 1)
    assert second.perform(FEED, replicated.tokens["ada"]).number == 2
    first.close()
    second.close()


def test_idle_session_ended_is_replaced(replicated: ReplicatedCompany) -> None:
    backend = replicated.backend()
    for number in range(1, 4):
        assert backend.perform(FEED, replicated.tokens["ada"]).number == number
        replicated.primary.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", OWNER)
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 3
    replicated.primary.restart()
    assert backend.perform(FEED, replicated.tokens["ada"]).number == 4
    backend.close()


def test_deadlock_is_run_again(replicated: ReplicatedCompany) -> None:
    backend = replicated.backend()
    backend.perform(FEED, replicated.tokens["ada"])
    attempts: list[int] = []
    with replicated.primary.session(replicated.database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("BEGIN; LOCK TABLE tasks_tasks")

        def write() -> int:
            with backend.runtime.database.write_transaction() as (connection, _):
                attempts.append(1)
                connection.execute("INSERT INTO storage_heartbeats (name, seen_at) VALUES ('x', 'y')")
                blocked = (
                    pool.submit(other.execute, "LOCK TABLE storage_heartbeats; COMMIT") if len(attempts) == 1 else None
                )
                time.sleep(0.2)
                connection.execute("UPDATE tasks_tasks SET title = 'Fed'")
            assert blocked is None
            return len(attempts)

        assert backend._rerun(write) > 1
    backend.close()


def test_stopped_process_keeps_the_lock_ten_seconds(replicated: ReplicatedCompany) -> None:
    """The server ends the session that is idle in its transaction, and a waiting command goes on."""
    backend, holder = replicated.backend(), replicated.backend()
    holds, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.runtime.database.write_transaction():
            holds.set()
            goes_on.wait(PATIENCE_SECONDS)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert holds.wait(PATIENCE_SECONDS)
        began = time.monotonic()
        assert backend.perform(FEED, replicated.tokens["ada"]).number == 1
        assert time.monotonic() - began < 13
        goes_on.set()
        with pytest.raises(TransactionLost):
            held.result(PATIENCE_SECONDS)
    backend.close()
    holder.close()
