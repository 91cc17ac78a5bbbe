"""``popug database copy``: a company moves from a home to PostgreSQL, and back into a home."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.installed_company import PROGRAM, Company
from tests.support.postgres.server import HOST, OWNER, PostgresServer
from tests.support.postgres.stopping_proxy import StoppingProxy

PATIENCE_SECONDS = 60

COMPARED = (
    ("balance", "kesha"),
    ("income",),
    ("tasks", "list", "--all"),
    ("events", "list"),
    ("mail", "list"),
    ("tasks", "fairness"),
)


@pytest.fixture
def at_home(tmp_path: Path) -> Iterator[Company]:
    """A company in a file, with tasks, a shuffle, a correction's worth of entries and a closed day."""
    company = type("HomeCompany", (Company,), {"is_served": False})(tmp_path / "company")
    company.init("ada")
    company.hire_all({"kesha": "worker", "gosha": "worker"})
    company.log_in_all(["ada", "kesha", "gosha"])
    company.import_tasks("ada", [f"Task {number}" for number in range(5)])
    company.run("tasks", "shuffle", "--yes", as_user="ada").ok()
    for task in company.tasks()[:2]:
        company.complete(task["assignee"], task["number"])
    company.run("close-day", "--yes", as_user="ada").ok()
    company.add_task("ada", "The naïve — «last» \U0001f99c")
    yield company
    company.end()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


def answers(company: Company, **environment: str) -> list[object]:
    return [company.run(*words, as_user="ada", env=environment).ok() for words in COMPARED]


def test_copy_to_postgres_and_back_keeps_everything(at_home: Company, url: str, tmp_path: Path) -> None:
    before = answers(at_home)
    head = at_home.run("ledger", "verify").ok()["head"]
    copied = at_home.run("database", "copy", "--to", url).ok()
    assert (copied["head"], copied["events"]) == (head, int(before[3]["events"][-1]["sequence"]))  # type: ignore[index]
    moved = {"POPUG_DATABASE": url}
    assert answers(at_home, **moved) == before
    assert at_home.run("doctor", env=moved).ok()["ok"]
    at_home.run("task", "add", "After the move", as_user="ada", env=moved).ok()
    head = at_home.run("ledger", "verify", env=moved).ok()["head"]
    assert at_home.run("ledger", "verify").ok()["head"] != head

    new_home = str(tmp_path / "new")
    back = at_home.run("database", "copy", "--from", url, "--home", new_home).ok()
    assert (back["head"], back["target"]) == (head, new_home)
    assert at_home.run("doctor", "--home", new_home).ok()["ok"]
    assert at_home.run("ledger", "verify", "--home", new_home).ok()["head"] == head
    assert at_home.run("whoami", "--home", new_home, as_user="ada").refused_with_exit(4)


def test_copy_is_refused_where_a_company_is(at_home: Company, url: str, tmp_path: Path) -> None:
    at_home.run("database", "copy", "--to", url).ok()
    at_home.run("database", "copy", "--to", url).refused(6, "already_initialised")
    at_home.run("database", "copy", "--from", url).refused(6, "already_initialised")
    at_home.run("database", "copy", "--to", url, env={"POPUG_DATABASE": url}).refused(6, "conflict")
    for words in ((), ("--to", url, "--from", url)):
        at_home.run("database", "copy", *words).refused(2, "usage")


def test_copy_from_an_empty_database_makes_no_home(at_home: Company, url: str, tmp_path: Path) -> None:
    at_home.run("database", "copy", "--from", url, "--home", str(tmp_path / "new")).refused(3, "not_initialised")
    assert not (tmp_path / "new").exists()


def test_database_stays_usable_after_a_failed_copy(at_home: Company, url: str, postgres: PostgresServer) -> None:
    at_home.run("database", "migrate", env={"POPUG_DATABASE": url}).ok()
    database = url.rpartition("/")[2]
    postgres.execute("ALTER TABLE tasks_tasks ADD CONSTRAINT nothing CHECK (false)", database=database, role=OWNER)
    assert at_home.run("database", "copy", "--to", url).code != 0
    postgres.execute("ALTER TABLE tasks_tasks DROP CONSTRAINT nothing", database=database, role=OWNER)
    at_home.run("database", "copy", "--to", url).ok()


@pytest.mark.parametrize("ending", ["killed", "terminated"])
def test_copy_that_fails_midway_leaves_nothing(at_home: Company, postgres: PostgresServer, ending: str) -> None:
    head = at_home.run("ledger", "verify").ok()["head"]
    with StoppingProxy(postgres.port) as proxy, empty_database(postgres) as name:
        at_home.run("database", "copy", "--to", f"postgresql://{OWNER}@{HOST}:{proxy.port}/{name}").ok()
    for share in (0.1, 0.6, 0.95):
        with empty_database(postgres) as name:
            code = cut_short(at_home, postgres, name, ending, round(share * proxy.passed_on))
            if code != 0:
                assert tables_of(postgres, name) == []
                at_home.run("database", "copy", "--to", postgres.url(name)).ok()
            moved = {"POPUG_DATABASE": postgres.url(name)}
            assert at_home.run("ledger", "verify", env=moved).ok()["head"] == head


def cut_short(company: Company, server: PostgresServer, name: str, ending: str, stop_after: int) -> int:
    """End a copy, or its session, once the server has that many of its bytes; return the exit code."""
    with StoppingProxy(server.port) as proxy:
        proxy.stop_after = stop_after
        line = [*PROGRAM, "database", "copy", "--home", str(company.home), "--to"]
        process = subprocess.Popen(
            [*line, f"postgresql://{OWNER}@{HOST}:{proxy.port}/{name}"],
            env={"PATH": os.environ["PATH"], "HOME": str(company.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        proxy.pid = process.pid
        try:
            assert proxy.stopped.wait(PATIENCE_SECONDS)
            if ending == "killed":
                process.kill()
            server.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", name)
            assert tables_of(server, name) == []
            proxy.resume()
            return process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()


def tables_of(server: PostgresServer, name: str) -> list[object]:
    return server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=name)


@contextmanager
def empty_database(server: PostgresServer) -> Iterator[str]:
    """Yield the name of an empty database."""
    name = server.create_database()
    yield name
    server.drop_database(name)


def test_copy_on_a_full_disk_leaves_nothing(at_home: Company, url: str, postgres: PostgresServer) -> None:
    database = url.rpartition("/")[2]
    refuse = (
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no' "
        "USING ERRCODE = 'disk_full'; END$$; CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN "
        "('ALTER TABLE') EXECUTE FUNCTION refuse()"
    )
    postgres.execute(refuse, database=database)
    at_home.run("database", "copy", "--to", url).refused(8, "disk_full")
    assert tables_of(postgres, database) == []
    postgres.execute("DROP EVENT TRIGGER refuse", database=database)
    at_home.run("database", "copy", "--to", url).ok()


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("ALTER TABLE bus_log DISABLE TRIGGER bus_log_no_update", "schema"),
        ("DROP INDEX bus_log_subject", "schema"),
        ("CREATE TABLE extra (id BIGINT)", "schema"),
        ("UPDATE bus_log SET actor = 'mallory' WHERE sequence = 1", "log_columns"),
        ("UPDATE bus_log SET subject = 'somebody' WHERE sequence = 2", "log_columns"),
        ("UPDATE bus_log SET envelope = replace(envelope, 'ada', 'eve') WHERE sequence = 1", "hash_chain"),
        ("UPDATE billing_entries SET amount_cents = amount_cents + 100 WHERE position = 1", "entries_match_events"),
        ("DELETE FROM bus_links WHERE last_sequence = (SELECT max(last_sequence) FROM bus_links)", "hash_chain"),
        ("UPDATE billing_accounts SET balance_cents = balance_cents + 1 WHERE kind = 'management'", "accounts_sum"),
    ],
)
def test_doctor_finds_damage_on_the_server(
    at_home: Company, url: str, postgres: PostgresServer, statement: str, check: str
) -> None:
    at_home.run("database", "copy", "--to", url).ok()
    session = "SET session_replication_role = replica"
    with postgres.session(url.rpartition("/")[2]) as connection:
        connection.execute(session)
        connection.execute(statement.encode())
    result = at_home.run("doctor", env={"POPUG_DATABASE": url})
    assert result.code == 7
    failed = [found["name"] for found in result.json["checks"] if not found["ok"]]
    assert any(name.startswith(check) for name in failed), failed
