"""A database that popug cannot use is refused with a sentence and the right exit code; nothing is changed."""

import json

import pytest

from tests.support.installed_company import PASSWORD, Company
from tests.support.postgres.server import OWNER, PostgresServer

COUNTS = "SELECT (SELECT count(*) FROM bus_log), (SELECT count(*) FROM tasks_tasks)"


def url_for(company: Company, postgres: PostgresServer, role: str) -> dict[str, str]:
    """Return the environment in which commands use a company's database with another role."""
    return {"POPUG_DATABASE": postgres.url(company.database, role)}


def founding(company: Company, **env: str) -> list[str]:
    """Return the exit code and the error code of an attempt to found a company."""
    line = ["init", "--admin", "eve", "--email", "eve@popug.example", "--password-stdin"]
    done = company.run(*line, input=PASSWORD + "\n", env={"POPUG_HOME": str(company.folder / "new"), **env})
    return [str(done.code), json.loads(done.stderr)["error"]["code"]]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_other_encoding_is_unavailable(encoding: str, on_postgres: type[Company], company: Company) -> None:
    server = on_postgres.database_server
    assert server is not None
    name = server.create_database(options=f"ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc")
    try:
        error = company.run("tasks", "list", env={"POPUG_DATABASE": server.url(name)}).refused(
            8, "database_unavailable"
        )
        assert f"its encoding is {encoding}, popug needs UTF8" in error["message"]
        assert founding(company, POPUG_DATABASE=server.url(name)) == ["8", "database_unavailable"]
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert server.execute(tables, database=name, role=OWNER) == [(0,)]
    finally:
        server.drop_database(name)


def test_read_only_role_is_refused(company: Company, postgres: PostgresServer) -> None:
    postgres.execute(f'ALTER ROLE {OWNER} IN DATABASE "{company.database}" SET default_transaction_read_only = on')
    before = postgres.execute(COUNTS, database=company.database, role=OWNER)
    for line in (["task", "add", "Feed the cage"], ["tasks", "list"], ["doctor"]):
        error = company.run(*line, as_user="ada").refused(8, "read_only")
        assert "is read-only: it is a standby, or a setting says so" in error["message"]
    assert founding(company, **url_for(company, postgres, OWNER)) == ["8", "read_only"]
    assert postgres.execute(COUNTS, database=company.database, role=OWNER) == before


def test_role_without_rights_is_unavailable(company: Company, postgres: PostgresServer) -> None:
    database = company.database
    before = postgres.execute(COUNTS, database=database, role=OWNER)
    postgres.create_role("popug_reader")
    without_select = company.run("tasks", "list", as_user="ada", env=url_for(company, postgres, "popug_reader"))
    assert "permission denied for table" in without_select.refused(8, "database_unavailable")["message"]
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO popug_reader", database=database, role=OWNER)
    adding = company.run("task", "add", "Feed it", as_user="ada", env=url_for(company, postgres, "popug_reader"))
    assert "permission denied for table" in adding.refused(8, "database_unavailable")["message"]
    postgres.execute(f'REVOKE CONNECT ON DATABASE "{database}" FROM public')
    without_connect = company.run("tasks", "list", as_user="ada", env=url_for(company, postgres, "popug_reader"))
    error = without_connect.refused(8, "database_unavailable")
    assert f'permission denied for database "{database}"' in error["message"]
    assert postgres.execute(COUNTS, database=database, role=OWNER) == before


def test_role_without_schema_is_unavailable(company: Company, postgres: PostgresServer) -> None:
    postgres.create_role("popug_outsider")
    postgres.execute("REVOKE USAGE ON SCHEMA public FROM public", database=company.database)
    outside = url_for(company, postgres, "popug_outsider")
    error = company.run("tasks", "list", as_user="ada", env=outside).refused(8, "database_unavailable")
    assert "has no schema that this role may use" in error["message"]
    assert founding(company, **outside) == ["8", "database_unavailable"]


@pytest.mark.parametrize("role", ["superuser:wrong", "nobody_at_all"])
def test_wrong_password_or_role_is_unavailable(role: str, company: Company, postgres: PostgresServer) -> None:
    url = f"postgresql://{role}@127.0.0.1:{postgres.port}/{company.database}"
    done = company.run("tasks", "list", as_user="ada", env={"POPUG_DATABASE": url})
    error = done.refused(8, "database_unavailable")
    assert "wrong" not in done.stderr
    expected = 'role "nobody_at_all" does not exist' if role == "nobody_at_all" else "password authentication failed"
    assert expected in error["message"]


def test_missing_database_is_unavailable(company: Company, postgres: PostgresServer) -> None:
    env = {"POPUG_DATABASE": postgres.url("none_such")}
    error = company.run("tasks", "list", as_user="ada", env=env).refused(8, "database_unavailable")
    assert 'database "none_such" does not exist' in error["message"]


def test_newer_schema_is_refused(company: Company, postgres: PostgresServer) -> None:
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", database=company.database, role=OWNER)
    for line in (["task", "add", "Feed the cage"], ["tasks", "list"], ["config", "show"], ["database", "migrate"]):
        error = company.run(*line, as_user="ada").refused(7, "newer_database")
        assert "was written by a newer popug (its version is 9999" in error["message"]
    assert company.run("doctor").code == 7
    assert founding(company, **url_for(company, postgres, OWNER)) == ["7", "newer_database"]


def test_older_schema_needs_migration(company: Company, postgres: PostgresServer) -> None:
    postgres.execute("UPDATE alembic_version SET version_num = '0001'", database=company.database, role=OWNER)
    error = company.run("tasks", "list", as_user="ada").refused(6, "older_database")
    assert "popug database migrate" in error["hint"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE orders (id BIGINT)",
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('ae1027a6acf')",
        "CREATE VIEW bus_log AS SELECT 1 AS sequence",
        "CREATE FUNCTION storage_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    ],
)
def test_foreign_schema_is_refused(statement: str, company: Company, postgres: PostgresServer) -> None:
    database = postgres.create_database()
    try:
        postgres.execute(statement, database=database, role=OWNER)
        assert founding(company, POPUG_DATABASE=postgres.url(database)) == ["7", "corrupt_database"]
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert postgres.execute(tables, database=database, role=OWNER) == [(int("TABLE" in statement),)]
    finally:
        postgres.drop_database(database)


def test_missing_driver_names_the_extra(company: Company) -> None:
    folder = company.folder / "without"
    folder.mkdir()
    (folder / "psycopg.py").write_text("raise ModuleNotFoundError('No module named psycopg', name='psycopg')\n")
    for line in (
        ["tasks", "list"],
        ["doctor"],
        ["serve", "--database", company.database_url()],
        ["database", "migrate"],
    ):
        error = company.run(*line, env={"PYTHONPATH": str(folder)}).refused(8, "database_unavailable")
        assert "needs a package that is not installed (psycopg)" in error["message"]
        assert "pip install 'popug[postgres]'" in error["hint"]


def test_backup_names_the_tools_of_postgresql(company: Company) -> None:
    for line in (
        ["backup"],
        ["backup", "x.zip"],
        ["restore", "x.zip", "--yes"],
        ["config", "set", "scheduler.backup", "true"],
    ):
        error = company.run(*line).refused(2, "usage")
        assert "pg_dump" in error["hint"]
        assert "PITR" in error["hint"]


def test_scheduler_without_a_backup_closes_the_day(company: Company) -> None:
    (company.home / "config.toml").write_text("[scheduler]\nbackup = true\n")
    done = company.run("scheduler", "--once")
    assert done.code == 0, done
    assert "Today's backup was not taken: popug backup works on the database file" in done.stderr
    assert "pg_dump" in done.stderr


def test_file_left_in_the_home_is_not_read(company: Company) -> None:
    for name in ("popug.db", "popug.db-wal", "popug.db-shm"):
        (company.home / name).write_text("this is not a database")
    assert company.run("doctor", "--strict").ok()["ok"] is True
    company.add_task("ada", "Feed the cage")
    assert company.run("ledger", "verify").ok()["ok"] is True
    company.run("scheduler", "--once").ok()
    for name in ("popug.db", "popug.db-wal", "popug.db-shm"):
        assert (company.home / name).read_text() == "this is not a database"


def test_pooler_that_shares_sessions_is_refused(company: Company, postgres: PostgresServer) -> None:
    before = postgres.execute(COUNTS, database=company.database, role=OWNER)
    postgres.execute(f"ALTER ROLE {OWNER} IN DATABASE \"{company.database}\" SET popug.session = 'in use'")
    for line in (["task", "add", "Feed the cage"], ["tasks", "list"]):
        error = company.run(*line, as_user="ada").refused(8, "database_unavailable")
        assert "lets several clients share a session" in error["message"]
        assert "pool_mode = session" in error["hint"]
    assert postgres.execute(COUNTS, database=company.database, role=OWNER) == before
