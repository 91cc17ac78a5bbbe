"""The servers that tests of PostgreSQL start: whole, killed, frozen, with a standby; nothing of them is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.postgres import programs
from tests.support.postgres.server import OWNER, SUPERUSER, PostgresServer
from tests.support.running_server import eventually

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60
USE_SHARED = """
import sys, time
from pathlib import Path
from tests.support.postgres.shared import shared_server
server = shared_server(Path(sys.argv[1]))
print(server.port, server.folder, server.execute("SELECT 1"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server for one test, which may end it."""
    programs.require_postgres()
    with PostgresServer.create() as server:
        yield server


def test_database_begins_as_a_copy_of_its_template(postgres: PostgresServer) -> None:
    template = postgres.create_database()
    postgres.execute("CREATE TABLE kept (word TEXT)", database=template, role=OWNER)
    postgres.execute("INSERT INTO kept VALUES ('é'), ('Z'), ('a')", database=template, role=OWNER)
    copy = postgres.create_database(template=template)
    by_letter = "SELECT word FROM kept ORDER BY word"
    assert postgres.execute(by_letter, database=copy, role=OWNER) == [("a",), ("é",), ("Z",)]
    postgres.drop_database(template)
    postgres.drop_database(copy)
    assert postgres.execute("SELECT datname FROM pg_database WHERE datname IN (%s, %s)", template, copy) == []


def test_owner_of_databases_has_no_other_rights(postgres: PostgresServer) -> None:
    rights = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = %s"
    postgres.create_role(OWNER)
    assert postgres.execute(rights, OWNER) == [(False, False, False, False)]


def test_superuser_needs_the_password(postgres: PostgresServer) -> None:
    import psycopg

    url = postgres.url("postgres", SUPERUSER).replace(postgres.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_killed_server_keeps_what_was_committed(server: PostgresServer) -> None:
    server.execute("CREATE TABLE kept (number BIGINT)")
    pids = server.pids()
    assert len(pids) > 3
    server.kill()
    assert not server.is_running
    server.start()
    assert server.execute("SELECT count(*) FROM kept") == [(0,)]


def test_frozen_server_answers_after_it_is_resumed(server: PostgresServer) -> None:
    server.signal_all(signal.SIGSTOP)
    client = subprocess.Popen(
        [sys.executable, "-c", "import psycopg, sys; psycopg.connect(sys.argv[1])", server.url("postgres", SUPERUSER)]
    )
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(1)
    server.signal_all(signal.SIGCONT)
    assert client.wait(PATIENCE_SECONDS) == 0


def test_promoted_standby_has_every_acknowledged_commit(server: PostgresServer) -> None:
    with server.create_standby("first") as standby:
        server.wait_for_standbys("first")
        database = server.create_database()
        server.execute("CREATE TABLE kept (number BIGINT)", database=database, role=OWNER)
        for number in range(20):
            server.execute("INSERT INTO kept VALUES (%s)", number, database=database, role=OWNER)
        server.kill()
        assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
        standby.promote()
        assert standby.execute("SELECT count(*) FROM kept", database=database, role=OWNER) == [(20,)]
        standby.execute("INSERT INTO kept VALUES (20)", database=database, role=OWNER)


def test_commit_waits_for_a_stopped_standby(server: PostgresServer) -> None:
    with server.create_standby("first") as standby:
        server.wait_for_standbys("first")
        server.execute("CREATE TABLE kept (number BIGINT)")
        standby.signal_all(signal.SIGSTOP)
        with server.session() as writer, ThreadPoolExecutor(1) as thread:
            notices: list[str | None] = []
            writer.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            written = thread.submit(writer.execute, "INSERT INTO kept VALUES (1)")
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            eventually(lambda: server.execute(waiting))
            server.execute("SELECT pg_cancel_backend(%s)", writer.info.backend_pid)
            written.result(PATIENCE_SECONDS)
        assert notices == ["canceling wait for synchronous replication due to user request"]
        standby.signal_all(signal.SIGCONT)


def test_shared_server_ends_with_the_last_process(tmp_path: Path) -> None:
    programs.require_postgres()
    line = [sys.executable, "-c", USE_SHARED, str(tmp_path / "shared")]
    users = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    try:
        said = [user.stdout.readline() for user in users if user.stdout]
        assert len(set(said)) == 1
        port, folder, answer = said[0].split(" ", 2)
        assert answer == "[(1,)]\n"
        for user in users[:2]:
            os.kill(user.pid, signal.SIGKILL)
            user.wait()
        time.sleep(0.3)
        assert Path(folder).exists()
    finally:
        for user in users:
            user.kill()
            user.communicate()
    eventually(lambda: not Path(folder).exists())
    assert f"-p {port}" not in subprocess.run(["ps", "axo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_missing_postgres_skips_but_fails_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(programs, "what_is_missing", lambda: "PostgreSQL 15 or newer is not installed")
    with pytest.raises(outcome) as raised:
        programs.require_postgres()
    assert str(raised.value).startswith("PostgreSQL 15 or newer is not installed; install Debian's package postgresql")
