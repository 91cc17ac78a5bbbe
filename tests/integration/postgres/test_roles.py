"""The owner's role migrates, the application's role works; `serve` takes the URL of a database."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.installed_company import PASSWORD, PROGRAM, Company
from tests.support.postgres.server import OWNER, PostgresServer
from tests.support.running_server import eventually

APP = "popug_app"
PROTECTED = {
    "UPDATE bus_log SET type = type": "bus_log",
    "DELETE FROM bus_log": "bus_log",
    "UPDATE bus_links SET hash = hash": "bus_links",
    "DELETE FROM billing_entries": "billing_entries",
    "UPDATE billing_entries SET amount_cents = 1": "billing_entries",
    "UPDATE billing_days SET business_date = business_date": "billing_days",
    "UPDATE alembic_version SET version_num = '9999'": "alembic_version",
    "DROP TRIGGER bus_log_no_update ON bus_log": "relation bus_log",
    "ALTER TABLE billing_entries DISABLE TRIGGER ALL": "table billing_entries",
    "DROP TABLE bus_log": "table bus_log",
    "TRUNCATE bus_log": "table bus_log",
    "CREATE TABLE own (id BIGINT)": "schema public",
}


@pytest.fixture
def empty(on_postgres: type[Company], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """A company that is not founded yet; its database is empty."""
    company = on_postgres(tmp_path_factory.mktemp("c"))
    company.database_url()
    yield company
    company.end()


def as_app(company: Company, postgres: PostgresServer) -> dict[str, str]:
    """Return the environment of a command that uses the application's role."""
    postgres.create_role(APP)
    return {"POPUG_DATABASE": postgres.url(company.database, APP)}


def test_company_founded_by_a_role_that_owns_nothing(empty: Company, postgres: PostgresServer) -> None:
    app = as_app(empty, postgres)
    line = ["init", "--admin", "ada", "--email", "ada@popug.example", "--password-stdin"]
    empty.run(*line, input=PASSWORD + "\n", env=app).refused(8, "database_unavailable")
    migrated = empty.run("database", "migrate", "--role", APP).ok()
    assert (migrated["before"], migrated["version"] > "0000") == (None, True)
    again = empty.run("database", "migrate", "--role", APP).ok()
    assert again["before"] == again["version"] == migrated["version"]
    empty.run("whoami", env=app).refused(3, "not_initialised")
    assert empty.run(*line, input=PASSWORD + "\n", env=app).code == 0
    hire = ["user", "add", "kesha", "--email", "k@popug.example", "--role", "worker", "--password-stdin"]
    assert empty.run(*hire, input=PASSWORD + "\n", env=app).code == 0
    for command in (["task", "add", "Feed"], ["tasks", "shuffle", "--yes"], ["close-day", "--date", "today", "--yes"]):
        assert empty.run(*command, env=app).code == 0
    assert empty.run("doctor", env=app).ok()["ok"] is True
    assert "this is the PostgreSQL database" in empty.run("doctor", env=app, as_json=False).stdout
    assert "This company is in the PostgreSQL database" in empty.run("today", env=app, as_json=False).stdout
    owned = "SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = %s"
    assert postgres.execute(owned, APP, database=empty.database) == [(0,)]


def test_application_role_cannot_change_the_past(company: Company, postgres: PostgresServer) -> None:
    import psycopg

    postgres.create_role(APP)
    company.run("database", "migrate", "--role", APP).ok()
    company.add_task("ada", "Feed the cage")
    for statement, subject in PROTECTED.items():
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=subject):
            postgres.execute(statement, database=company.database, role=APP)
    for statement in ("UPDATE bus_log SET type = type", "DELETE FROM bus_log"):
        with pytest.raises(psycopg.Error, match="append-only"):
            postgres.execute(statement, database=company.database, role=OWNER)
    assert company.run("doctor").ok()["ok"] is True


@pytest.mark.parametrize(
    ("role", "code", "error"),
    [("nobody_here", 3, "role_not_found"), (OWNER, 2, "usage"), ('x"; DROP', 3, "role_not_found")],
)
def test_migration_for_a_wrong_role_changes_nothing(
    role: str, code: int, error: str, empty: Company, postgres: PostgresServer
) -> None:
    empty.run("database", "migrate", "--role", role).refused(code, error)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(tables, database=empty.database) == [(0,)]


def test_migration_of_an_unreleased_version_refused(company: Company, postgres: PostgresServer) -> None:
    postgres.execute("UPDATE alembic_version SET version_num = '0001'", database=company.database, role=OWNER)
    error = company.run("database", "migrate").refused(6, "older_database")
    assert "popug database copy --from URL" in error["hint"]
    version = "SELECT version_num FROM alembic_version"
    assert postgres.execute(version, database=company.database, role=OWNER) == [("0001",)]


def test_migration_by_the_application_refused(empty: Company, postgres: PostgresServer) -> None:
    error = empty.run("database", "migrate", env=as_app(empty, postgres)).refused(8, "database_unavailable")
    assert "permission denied for schema public" in error["message"]


def test_migration_of_a_home_with_a_file_refused(company: Company) -> None:
    error = company.run("database", "migrate", env={"POPUG_DATABASE": ""}).refused(2, "usage")
    assert "No PostgreSQL database is named" in error["message"]


def test_server_uses_the_database_of_its_option(company: Company) -> None:
    url = company.database_url()
    log = company.folder / "server.log"
    environment = company.environment(env={"POPUG_DATABASE": "", "POPUG_HOME": str(company.folder / "new-home")})
    with log.open("wb") as output:
        line = [*PROGRAM, "serve", "--database", url, "--scheduler", "--json"]
        server = subprocess.Popen(line, env=environment, stdout=output, stderr=output)
    try:
        eventually(lambda: b'"listening"' in log.read_bytes() or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        socket = json.loads(next(line for line in log.read_text().splitlines() if '"listening"' in line))["urls"][0]
        answer = company.run(
            "task", "add", "Feed the cage", "--server", socket, as_user="ada", env={"POPUG_DATABASE": ""}
        )
        assert answer.ok()["number"] == 1
        assert company.tasks("ada")[0]["title"] == "Feed the cage"
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(("url", "code", "error"), [("", 2, "usage"), ("mysql://h/d", 2, "invalid_url")])
def test_server_with_a_bad_database_refused(url: str, code: int, error: str, company: Company) -> None:
    company.run("serve", "--database", url).refused(code, error)


def test_server_on_an_empty_database_refused(empty: Company) -> None:
    url = empty.database_url()
    empty.run("serve", "--database", url, env={"POPUG_DATABASE": ""}).refused(3, "not_initialised")


def test_completion_reads_the_server_not_a_stale_file(
    company: Company, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stale = Company(tmp_path_factory.mktemp("stale"))
    stale.init()
    stale.hire("old-kesha", "worker")
    (company.home / "popug.db").write_bytes((stale.home / "popug.db").read_bytes())
    company.add_task("ada", "Feed the cage")
    env = {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": "popug balance ", "COMP_CWORD": "2"}
    done = company.run(as_user="ada", env=env, as_json=False)
    assert "old-kesha" not in done.stdout
    assert "ada" in done.stdout
    error = company.run("balance", "old-kesh", as_user="ada").refused(3, "user_not_found")
    assert "old-kesha" not in error["hint"]


@pytest.mark.parametrize("line", [("scheduler", "install", "--cron"), ("serve", "install", "--systemd")])
def test_installed_programs_need_the_url_in_the_file(line: tuple[str, ...], company: Company) -> None:
    hint = "POPUG_DATABASE is set in this shell only: write the URL to config.toml"
    assert hint in company.run(*line, as_json=False).stdout
    company.run("config", "set", "database.url", company.database_url()).ok()
    done = company.run(*line, as_json=False, env={"POPUG_DATABASE": ""})
    assert done.code == 0
    assert hint not in done.stdout
