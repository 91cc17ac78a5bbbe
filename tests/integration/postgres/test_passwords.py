"""The password in a database's URL is never shown again, and a settings file with one is private."""

import json
import os
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.installed_company import PROGRAM, Company
from tests.support.postgres.server import SUPERUSER, PostgresServer

SECRET = "s3cret-of-the-cage"


@pytest.fixture
def secret_url(postgres: PostgresServer, company: Company) -> str:
    """The URL of the company's database for a role with a password, which the server checks."""
    database = company.database
    postgres.create_role("popug_secret", f"LOGIN PASSWORD '{SECRET}'")
    postgres.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO popug_secret", database=database)
    postgres.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO popug_secret", database=database)
    return postgres.url(database, "popug_secret").replace("popug_secret@", f"popug_secret:{SECRET}@")


def file_only() -> dict[str, str]:
    """Return the environment in which config.toml alone names the database."""
    return {"POPUG_DATABASE": "", "POPUG_TRACEBACK": "1"}


def test_settings_show_no_password(company: Company, secret_url: str) -> None:
    env = file_only()
    set_with = {"POPUG_DATABASE": company.database_url()}
    answers = [company.run("config", "set", "database.url", secret_url, env=set_with)]
    answers += [company.run(*line, env=env, as_user="ada") for line in (
        ["config", "show"], ["events", "list"], ["events", "show", "1"], ["doctor"], ["events", "trace", "1"],
    )]  # fmt: skip
    answers += [company.run(*line, env=env, as_json=False) for line in (["config", "show"], ["doctor"])]
    assert all(SECRET not in answer.stdout + answer.stderr for answer in answers)
    shown = secret_url.replace(SECRET, "***")
    lines = {line["key"]: line for line in answers[1].ok()["settings"]}
    assert (lines["database.url"]["value"], lines["database.url"]["source"]) == (shown, "config.toml")
    events = [event for event in answers[2].ok()["events"] if event["type"].split(".")[-2] == "setting_changed"]
    assert [event["data"] for event in events] == [{"key": "database.url", "value": shown}]
    assert SECRET in (company.home / "config.toml").read_text()
    assert stat.S_IMODE((company.home / "config.toml").stat().st_mode) == 0o600


def test_exposed_settings_file_with_a_password_refused(company: Company, secret_url: str) -> None:
    config = company.home / "config.toml"
    config.write_text(f'[database]\nurl = "{secret_url}"\n')
    config.chmod(0o640)
    for line in (["tasks", "list"], ["doctor"], ["config", "show"], ["serve"], ["database", "migrate"]):
        done = company.run(*line, env=file_only())
        error = done.refused(4, "insecure_file")
        assert error["message"] == f"Other users can access {config}, which has the password of the database."
        assert f"chmod 600 {config}" in error["hint"]
        assert SECRET not in done.stderr
    config.chmod(0o600)
    company.run("tasks", "list", as_user="ada", env=file_only()).ok()


def test_readable_settings_file_without_a_password_accepted(company: Company) -> None:
    config = company.home / "config.toml"
    config.write_text(f'[database]\nurl = "{company.database_url()}"\n')
    config.chmod(0o644)
    company.run("tasks", "list", as_user="ada", env={"POPUG_DATABASE": ""}).ok()


@pytest.mark.parametrize(
    "text", ['[database]\nurl = "{}"\nnot toml', "[database]\nurl = '''\n{}'''", '[database]\nurl = ["{}"]']
)
def test_broken_settings_file_shows_no_password(text: str, company: Company, secret_url: str, tmp_path: Path) -> None:
    sqlite3.connect(company.home / "popug.db").close()  # a file that is left from before the move
    config = company.home / "config.toml"
    config.write_text("[database]\n" + text.format(secret_url))
    config.chmod(0o600)
    for line in (["tasks", "list"], ["doctor"], ["config", "show"], ["config", "set", "mail.transport", "maildir"]):
        done = company.run(*line, env=file_only())
        assert done.code == 2, done
        assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] in {"invalid_setting", "invalid_url"}
        assert SECRET not in done.stderr


@pytest.mark.parametrize("change", ["/nowhere", ":1/", "?sslmode=require", "?nothing=1", "@", "%"])
def test_errors_and_tracebacks_show_no_password(change: str, company: Company, secret_url: str) -> None:
    url = {":1/": secret_url.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:2"), "@": secret_url.replace("@", "@@")}.get(
        change, secret_url + change
    )
    for as_json in (True, False):
        done = company.run("tasks", "list", env={"POPUG_DATABASE": url, "POPUG_TRACEBACK": "1"}, as_json=as_json)
        assert done.code in {2, 8}, done
        assert SECRET not in done.stdout + done.stderr


def test_refused_setting_shows_no_password(company: Company, secret_url: str) -> None:
    for url in (
        secret_url.replace("postgresql", "mysql"),
        f"host=h password={SECRET}",
        secret_url + "\n",
        secret_url + "@",
    ):
        done = company.run("config", "set", "database.url", url, env={"POPUG_TRACEBACK": "1"})
        assert done.code == 2, done
        assert SECRET not in done.stdout + done.stderr
    assert not (company.home / "config.toml").exists()


def test_server_and_its_hooks_never_show_the_password(company: Company, secret_url: str) -> None:
    hook = company.home / "hooks" / "task_created"
    hook.parent.mkdir(exist_ok=True)
    said = company.folder / "said"
    hook.write_text(
        f"#!/bin/sh\n{{ env; tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/self/cmdline; }} >{said}.part\n"
        f"mv {said}.part {said}\n"
    )
    hook.chmod(0o700)
    log = company.folder / "server.log"
    environment = company.environment(env={"POPUG_DATABASE": secret_url, "POPUG_LOG_ACCESS": "true"})
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*PROGRAM, "serve", "--listen", "127.0.0.1:0"], env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while "Serving" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        company.add_task("ada", "Feed the cage")
        while not said.exists():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        assert SECRET not in Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        server.terminate()
        server.wait()
    assert SECRET not in said.read_text()
    assert SECRET not in log.read_text()


def test_restored_backup_never_names_a_database(tmp_path: Path, secret_url: str) -> None:
    company = Company(tmp_path / "in-a-file")
    company.init()
    path = company.run("backup").ok()["path"]
    import zipfile

    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.toml", f'[database]\nurl = "{secret_url}"\n')
    done = company.run("restore", path, "--yes")
    assert done.code != 0
    assert SECRET not in done.stdout + done.stderr
    assert os.environ.get("POPUG_DATABASE") is None
    assert json.loads(done.stderr)["error"]["message"]
    assert SUPERUSER not in done.stderr
