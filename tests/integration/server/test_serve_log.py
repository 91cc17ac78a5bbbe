"""The log of ``popug serve``: its records, the secrets that it never contains, and a server that cannot write it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_server import PATIENCE_SECONDS, RunningServer, create_home, eventually
from tests.support.server_fixture import PASSWORD, ServerFixture

CODE = "KQ7M-4TZP-9XW2"  # of an invitation
HOSTILE = "all is well\n2026-11-30T00:00:00Z error: forged\x1b[2J\u202e"

BROKEN = """
from popug_cli.app.hosting.served_company import ServedCompany
def quote_the_password(self, message, token, key=None):
    return int(message.password)
ServedCompany.perform = quote_the_password
"""


@pytest.fixture
def company(tmp_path: Path) -> ServerFixture:
    return create_home(tmp_path / "home")


def served_log(company: ServerFixture, *options: str, **environment: str) -> RunningServer:
    variables = {f"POPUG_LOG_{name.upper()}": value for name, value in environment.items()}
    return RunningServer(company.home.root, *options, environment=variables)


def send_secrets_everywhere(server: RunningServer, token: str) -> None:
    """Send a password, a token and an invitation code in each part of a request, and text that would forge a line."""
    for secret in (PASSWORD.replace(" ", "-"), token, CODE):
        login = {"username": secret, "password": secret}
        server.post("identity/log_in", login)
        server.post("identity/log_in", {"username": "ada", "password": secret})
        server.post("identity/set_password", {"password": secret, "nonsense": secret}, secret)
        server.post(f"identity/{secret}", {}, secret)
        server.post(f"tasks/add_task?token={secret}", {"title": secret}, secret, Idempotency_Key=secret)
        server.request("GET", f"/invite/kesha/{secret}")
        server.request("GET", f"/v1/events?token={secret}&after={secret}", headers={"Last-Event-ID": secret})
        server.request("GET", "/healthz", headers={"Cookie": secret, "User-Agent": secret, "Referer": f"/{secret}"})
        server.request(secret.replace(" ", ""), "/healthz")
        server.request("POST", "/v1/tasks/add_task", secret.encode(), {"Content-Type": secret})
    server.post("tasks/add_task", {"title": HOSTILE}, token)
    server.post("identity/log_in", {"username": HOSTILE, "password": HOSTILE})
    server.request("GET", "/%0A2026-11-30T00:00:00Z%20error:%20forged%1B%5B2J")


@pytest.mark.parametrize("format_", ["text", "json"])
def test_log_has_no_secret_and_no_forged_line(company: ServerFixture, format_: str) -> None:
    with served_log(company, format=format_, access="true") as server:
        send_secrets_everywhere(server, company.tokens["kesha"])
        assert server.end() == 0
    lines = server.err.splitlines()
    assert len([line for line in lines if "/v1/tasks/add_task" in line]) >= 4
    for secret in (PASSWORD, PASSWORD.replace(" ", "-"), company.tokens["kesha"], CODE, company.tokens["kesha"][-20:]):
        assert secret not in server.err
    assert not {"\x1b", "\u202e"} & set(server.err)
    assert not any(line.startswith("2026-11-30T00:00:00Z") for line in lines)


@pytest.mark.parametrize("traceback", ["", "1"])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_internal_error_is_logged_without_its_text(company: ServerFixture, format_: str, traceback: str) -> None:
    environment = {"POPUG_LOG_FORMAT": format_, "POPUG_TRACEBACK": traceback}
    with RunningServer(company.home.root, patch=BROKEN, environment=environment) as server:
        answer = server.post("identity/log_in", {"username": "ada", "password": PASSWORD})
        assert server.end() == 0
    assert (answer.status, answer.document["hint"]) == (500, "The server's log has the details.")
    assert "A request failed (ValueError" in server.err
    assert ("quote_the_password" in server.err) == bool(traceback)
    assert PASSWORD not in server.err
    if format_ == "json":
        assert [json.loads(line)["level"] for line in server.err.splitlines()] == ["info", "error"]


def test_json_log_is_one_object_a_line(company: ServerFixture) -> None:
    with served_log(company, format="json", access="true") as server:
        server.post("tasks/add_task", {"title": "Feed the cage"}, company.tokens["kesha"])
        server.request("GET", "/nowhere")
        assert server.end() == 0
    listening, added, missing = (json.loads(line) for line in server.err.splitlines())
    assert (listening["event"], listening["level"], listening["home"]) == ("listening", "info", str(server.home))
    chosen = ("logger", "client", "method", "path", "status")
    assert [added[name] for name in chosen] == ["popug.access", "unix", "POST", "/v1/tasks/add_task", 200]
    assert (added["size_bytes"] > 0, added["duration_seconds"] > 0) == (True, True)
    assert [missing[name] for name in chosen[2:]] == ["GET", "(unknown)", 404]


def test_text_log_without_access_is_silent(company: ServerFixture) -> None:
    with served_log(company) as server:
        server.request("GET", "/healthz")
        assert server.end() == 0
    assert (server.err, server.started["event"]) == ("", "listening")


def test_access_log_of_text_is_one_line_a_request(company: ServerFixture) -> None:
    with served_log(company, "--listen", "127.0.0.1:0", access="true") as server:
        server.request("GET", "/healthz")
        server.request("POST", "/healthz")
        server.post("tasks/add_task", {"title": "x" * 2_000_000}, company.tokens["kesha"])
        assert server.end() == 0
    seen = [line.split(" ", 1)[1].split(",")[0] for line in server.err.splitlines()]
    paths = ["unix GET /healthz 200", "unix POST /healthz 415", "unix POST /v1/tasks/add_task 413"]
    assert seen == [f"info: {path}" for path in paths]


def test_error_that_ends_a_command_is_a_record_of_a_json_log(company: ServerFixture) -> None:
    with served_log(company):
        done = popug(company, "serve", POPUG_LOG_FORMAT="json")
    (record,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout, record["level"]) == (8, "", "error")
    assert (record["message"], record["error"]["hint"] != "") == (record["error"]["message"], True)


def test_error_that_ends_a_command_is_as_ever_in_a_text_log(company: ServerFixture) -> None:
    with served_log(company):
        refusals = [popug(company, "serve", *options) for options in ((), ("--json",))]
    assert refusals[0].stderr.startswith("error: ")
    assert json.loads(refusals[1].stderr)["error"]["message"] in refusals[0].stderr


@pytest.mark.parametrize("source", ["variable", "file"])
@pytest.mark.parametrize("command", [["serve"], ["scheduler"], ["scheduler", "--once"]])
def test_unknown_format_is_refused(
    company: ServerFixture, command: list[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "file":
        company.home.config.write_text('[log]\nformat = "yaml"\n')
    else:
        monkeypatch.setenv("POPUG_LOG_FORMAT", "yaml")
    done = popug(company, *command, "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (2, "", "invalid_setting")
    assert "log.format" in error["message"]
    assert "text, json" in error["message"]


def test_unknown_format_is_not_stored(company: ServerFixture) -> None:
    before = company.home.config.read_bytes()
    done = popug(company, "config", "set", "log.format", "JSON")
    assert (done.returncode, "Did you mean json?" in done.stderr) == (2, True)
    assert company.home.config.read_bytes() == before


@pytest.mark.parametrize("stderr", ["full", "closed", "no reader"])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_server_works_if_its_log_cannot_be_written(company: ServerFixture, stderr: str, format_: str) -> None:
    environment = {"POPUG_LOG_FORMAT": format_, "POPUG_LOG_ACCESS": "true"}
    with with_stderr(company, stderr, environment, "serve") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "listening"
        for _ in range(20):
            done = popug(company, "task", "add", "Feed the cage", "--json", POPUG_TOKEN=company.tokens["kesha"])
            assert done.returncode == 0, done.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("stderr", ["full", "closed", "no reader"])
def test_scheduler_works_if_its_log_cannot_be_written(company: ServerFixture, stderr: str) -> None:
    hook = company.home.hooks / "task_created"
    company.home.hooks.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o755)
    eventually(lambda: time.time() > hook.stat().st_ctime + 0.1)
    done = popug(company, "task", "add", "Feed the cage", POPUG_TOKEN=company.tokens["kesha"])
    assert done.returncode == 0, done.stderr
    with with_stderr(company, stderr, {}, "scheduler", "--once") as process:
        assert process.wait(PATIENCE_SECONDS) == 0
        assert [json.loads(line)["event"] for line in process.stdout] == ["run", "hooks"]


def with_stderr(company: ServerFixture, stderr: str, environment: dict[str, str], *arguments: str) -> Any:
    """Start a command whose stderr is full, closed or without a reader."""
    command = [sys.executable, "-m", "popug_cli", *arguments, "--json", "--home", str(company.home.root)]
    redirections = {"full": "2>/dev/full", "closed": "2>&-", "no reader": "2> >(exit 0)"}
    shell = ["bash", "-c", f'exec "$@" {redirections[stderr]}', "bash", *command]
    return subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, env=os.environ | environment)


def popug(company: ServerFixture, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "popug_cli", *arguments, "--home", str(company.home.root)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )
