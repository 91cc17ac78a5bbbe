"""Every example of the help runs as typed, in a company with data to show."""

import io
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.cli.help.surface import surface
from popug_cli.cli.main import run
from popug_cli.kernel.clock import SystemClock
from popug_cli.messages.base import declarations
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.identity import AddUser, IssueToken, LogIn
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from tests.support.company import PASSWORD, InProcess, SetClock
from tests.support.identity_company import CHEAP

CHANGES = {each.command_line for each in declarations() if each.is_command} - {"mail send"}
EXAMPLES = [  # those of ``database`` and ``cluster`` need servers: tests/integration/postgres and cluster have them
    (words, line)
    for words, each in surface().commands.items()
    for line, _ in each.examples
    if not words.startswith(("database ", "cluster "))
]
LASTING = {"popug scheduler", "popug events follow", "popug serve", "popug dashboard"}
IDS = {
    "SHUFFLE_ID": "SELECT shuffle_id FROM tasks_shuffles",
    "ENTRY_ID": "SELECT entry_id FROM billing_entries WHERE kind = 'fee' AND business_date = (SELECT max(business_date)"
    " FROM billing_entries) ORDER BY position DESC",
    "EVENT_ID": "SELECT id FROM bus_log ORDER BY sequence",
    "TOKEN_ID": "SELECT token_id FROM identity_tokens WHERE user_id = (SELECT user_id FROM identity_users"
    " WHERE username = 'kesha')",
    "MAIL_ID": "SELECT mail_id FROM mail_outbox WHERE status = 'failed'",
    "DEAD_ID": "SELECT id FROM bus_set_aside WHERE state = 'dead'",
    "HEAD": "SELECT hash FROM bus_links ORDER BY last_sequence",
}
A_DAY = 24 * 3600
WAIT_SECONDS = 60


class Typist(io.TextIOBase):
    """A terminal whose user says yes, or accepts each default."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return self.line

    def write(self, text: str, /) -> int:
        self.shown += text
        return len(text)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a company (yesterday closed, a shuffle, a dead letter, a refused mail), its files and tokens."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (CHEAP | {"POPUG_BUS_MAX_ATTEMPTS": "1"}).items():
            patch.setenv(variable, value)
        clock = SetClock(SystemClock().now() - timedelta(days=1))
        company = InProcess(folder / "home", time_zone="UTC", clock=clock)
        company.act("boss", AddUser(username="ada", email="ada@example.com", role="admin", password=PASSWORD))
        company._remember(company.act("boss", AddUser(username="kesha", email="k@example.com", role="worker")))
        live(company, clock)
        tokens = {
            "ada": company.backend.perform(LogIn(username="ada", password=PASSWORD)).token,
            "kesha": company.act("boss", IssueToken(username="kesha", ttl_seconds=A_DAY)).token,
        }
        ids = {word: str(next(iter(company.rows(statement)[0].values()))) for word, statement in IDS.items()}
        company.backend.close()
    (folder / "known.json").write_text(json.dumps({"tokens": tokens, "ids": ids}))
    (folder / "home/hooks").mkdir(mode=0o755)
    (folder / "home/hooks/task_assigned").write_text("#!/bin/sh\ncat\n")
    (folder / "home/hooks/task_assigned").chmod(0o755)
    (folder / "password.txt").write_text("seven cages under nine moons\n")
    (folder / "chores.jsonl").write_text('{"title": "Count the seeds"}\n')
    (folder / "people.jsonl").write_text('{"username": "coco", "email": "coco@example.com", "role": "worker"}\n')
    return folder


def live(company: InProcess, clock: SetClock) -> None:
    company.act("boss", AddTask(title="Feed the cage"))
    while company.act("kesha", GetBalance()).balance_cents <= 0:
        company.act("kesha", CompleteTask(number=company.act("boss", AddTask(title="Polish the perch")).number))
    company.act("boss", CloseDay(send_mail=False))
    clock.advance(days=1)
    company.act("boss", AddTask(title="Of today"))
    company.act("boss", ShuffleTasks())
    company._remember(company.act("boss", AddUser(username="asya", email="asya@example.com", role="accountant")))
    with company.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute("UPDATE mail_outbox SET status = 'failed', last_error = 'no such mailbox'")
        head = context.log.last_position()
        envelope = {
            "specversion": "1.0", "id": "poison", "source": "/popug/identity", "datacontenttype": "application/json",
            "type": "popug.identity.user_registered.v1", "subject": "x", "time": "2026-01-01T00:00:00Z",
            "sequence": str(head + 1), "correlationid": "x", "actor": "x", "data": {"nothing": "of use"},
        }  # fmt: skip
        context.connection.execute("INSERT INTO bus_log (envelope) VALUES (?)", json.dumps(envelope))
    company.backend.catch_up()


@pytest.fixture
def folder(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the company that one example may change; its user is Ada."""
    here = tmp_path / "here"
    shutil.copytree(furnished, here)
    known = json.loads((here / "known.json").read_text())
    variables = CHEAP | {"HOME": str(tmp_path), "POPUG_HOME": str(here / "home"), "TMPDIR": str(tmp_path)}
    variables |= {"POPUG_SESSION": str(tmp_path / "session.json"), "POPUG_TOKEN": known["tokens"]["ada"]}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(("words", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_example_runs_and_reports_events_of_its_change(
    words: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = json.loads((folder / "known.json").read_text())
    typed = " ".join(known["ids"].get(word, word) for word in line.split(" "))
    prepare(words, known, monkeypatch)
    if line in LASTING or (words in {part[6:] for part in LASTING} and "--once" not in line):
        last_a_while(typed)
        return
    code, shown = type_at_terminal(typed, "y\n" if words != "init" else "\n", monkeypatch)
    assert code == (7 if "--strict" in line else 0), shown  # there is something to attend to in this company
    if words in CHANGES and not {"--json", "--print-token", "--dry-run"} & {*line.split()}:
        assert re.search(r"(Next\b.*:|`)\W*popug \w+", shown), (
            "after a change the next likely command is suggested: " + shown
        )
    if surface().commands[words].then and not {"--json", "--print-token"} & {*line.split()}:
        assert "Next: " in shown


def prepare(words: str, known: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up what a command needs: a new home, a password, a backup, another user."""
    if words == "init":
        monkeypatch.setenv("POPUG_HOME", "new")
    if words in {"login", "user activate"}:
        by_ada = {"login": "user passwd kesha --password-stdin", "user activate": "user deactivate kesha"}[words]
        assert quietly(by_ada) == 0
    if words == "restore":
        assert quietly("backup friday.popug") == 0
    if words == "task complete":
        monkeypatch.setenv("POPUG_TOKEN", known["tokens"]["kesha"])
    if words == "logout":
        monkeypatch.delenv("POPUG_TOKEN")
        shutil.copytree("home", "demo")
        for place in ("home", "demo"):
            assert quietly(f"recover ada --password-stdin --home {place}") == 0
            assert quietly(f"login ada --password-stdin --home {place}") == 0


def quietly(line: str) -> int:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"seven cages under nine moons\n")))
        return run(shlex.split(line))


def type_at_terminal(line: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    command, _, file = line.partition(" < ")
    stdin = io.TextIOWrapper(io.BytesIO(Path(file).read_bytes())) if file else Typist(answer)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "seven cages under nine moons")
    out, err = io.StringIO(), Typist("")
    with redirect_stdout(out), redirect_stderr(err):
        code = run(shlex.split(command)[1:])
    return code, out.getvalue() + err.shown


def last_a_while(line: str) -> None:
    """Run a command that lasts until Ctrl-C; it ends cleanly."""
    command = [sys.executable, "-m", "popug_cli", *shlex.split(line)[1:]]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not select.select([process.stdout], [], [], 1)[0]:
            assert time.monotonic() < deadline, "it shows nothing"
            if line == "popug events follow":  # it shows only what happens from now on
                assert quietly("task add 'Feed the cage'") == 0
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=WAIT_SECONDS)
        # CPython dies by SIGINT at its own end if Ctrl-C arrived inside exec(), as when a dataclass is made
        # (Python/pythonrun.c, run_eval_code_obj); a shell shows 130 for both.
        assert process.returncode in {0, 130, -signal.SIGINT}, shown
