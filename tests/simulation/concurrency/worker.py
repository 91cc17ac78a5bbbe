"""A worker: a process that runs one command line after another, drawn from its own seed."""

import gc
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from popug_cli.cli import main as command_line
from popug_cli.cli.program import build
from tests.simulation import place

ENVIRONMENT = {
    "POPUG_IDENTITY_ARGON2_TIME_COST": "1",
    "POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192",
    "POPUG_IDENTITY_ARGON2_PARALLELISM": "1",
    "LANG": "C.UTF-8",
}
WORD = "seven-cages-under-9-moons"
OPERATORS_LINES = ("doctor", "ledger verify", "scheduler --once")
EXPECTED_WARNING = "warning: Another process is sending mail"  # two concurrent senders may give it
REFUSED_FOR_A_REASON = frozenset({0, 3, 5, 6})
MODULES = ("identity", "tasks", "billing", "analytics", "mail")


class Answer(NamedTuple):
    """The result of a command line."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return the JSON document of a successful command, else an empty one."""
        return json.loads(self.stdout) if self.code == 0 else {}


class WorkerReport(msgspec.Struct):
    """The report of a worker: the results of its commands, the acknowledged changes, and the faults."""

    asked: dict[str, int] = {}
    added: list[str] = []
    completed: dict[str, str] = {}
    corrected: list[str] = []
    hired: list[str] = []
    faults: list[str] = []


def warm_up() -> None:
    """Import the modules of commands once before the fork, without opening a database."""
    for module in MODULES:
        for part in ("queries", "rules"):
            import_module(f"popug_cli.{module}.{part}")
    for name in (
        "app.local_backend",
        "audit.doctor",
        "bus.consumers",
        "billing.consumers",
        "identity.commands",
        "mail.outbox",
    ):
        import_module(f"popug_cli.{name}")
    import_module("jwt")
    program()
    gc.freeze()


@cache
def program() -> Any:
    """Return the command line, built once, with all commands loaded."""
    built = build()
    built.get_command(None, "")  # an unknown word loads all
    return built


def run_line(home: Path, line: list[str], *, typed: str = "", token: str = "") -> Answer:
    """Run a command line in this process, with its own environment."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    files = [io.BytesIO(typed.encode()), io.BytesIO(), io.BytesIO()]
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(file, encoding="utf-8") for file in files)
    for name in [name for name in os.environ if name.startswith("POPUG_")]:
        del os.environ[name]
    os.environ |= {**ENVIRONMENT, "POPUG_HOME": str(home), "POPUG_SESSION": f"{home}.session-{os.getpid()}"}
    if token:
        os.environ["POPUG_TOKEN"] = token
    try:
        code = command_line.run([*line, "--json"], program())
        sys.stderr.flush()
        return Answer(code, files[1].getvalue().decode(), files[2].getvalue().decode())
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        gc.collect()


class Worker:
    """The user of the command lines: the admin, a manager, an accountant or one of the workers."""

    def __init__(self, number: int, seed: int, home: Path, tokens: dict[str, str]) -> None:
        self.number = number
        self.home = home
        self.tokens = tokens
        self.chance = random.Random(f"{seed}/{number}")
        self.me = self.chance.choice([name for name in tokens if name.startswith("w")])
        self.report = WorkerReport()
        self.turn = 0

    def run(self, commands: int, give_up_at: float | None, done: Callable[[], None]) -> WorkerReport:
        """Run that many commands, or as many as the time allows."""
        while self.turn < commands if give_up_at is None else time.monotonic() < give_up_at:
            kind = self.chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            KINDS[kind][1](self)
            self.turn += 1
            done()
        return self.report

    def operate(self, is_over: Callable[[], bool]) -> WorkerReport:
        """Work on the home itself as its operator does, until the workers have ended."""
        while not is_over():
            self.send(self.chance.choice(OPERATORS_LINES))
            _backup(self)
            self.turn += 1
        return self.report

    def send(self, line: str, *more: str, by: str = "ada", typed: str = "") -> Answer:
        """Run a command line and record its result; only a refusal with a reason is not a fault."""
        words = [*line.split(), *more]
        answer = run_line(self.home, words, typed=typed, token=self.tokens.get(by, ""))
        name = " ".join(word for word in words[:2] if word.isalpha() or "-" in word[1:])
        self.report.asked[name] = self.report.asked.get(name, 0) + 1
        stderr = answer.stderr.replace(EXPECTED_WARNING, "")
        if answer.code not in REFUSED_FOR_A_REASON or "Traceback" in stderr or "warning" in stderr:
            output = answer.stderr or answer.stdout
            self.report.faults.append(f"{line} {' '.join(more)} by {by} ended with {answer.code}: {output}")
        return answer

    def anybody(self) -> str:
        """Return a user with a token."""
        return self.chance.choice(list(self.tokens))

    def extra(self) -> str:
        """Return a user without a token, who may be changed in any way."""
        return f"e{self.chance.randrange(4)}"


def _add(visitor: Worker) -> None:
    title = f"Chore {visitor.number}.{visitor.turn}"
    if visitor.send("task add", title, by=visitor.anybody()).code == 0:
        visitor.report.added.append(title)


def _complete(visitor: Worker) -> None:
    mine = visitor.send("tasks list --mine", by=visitor.me).json["tasks"]
    for task in mine[:1]:
        if visitor.send(f"task complete {task['number']}", by=visitor.me).code == 0:
            visitor.report.completed[str(task["number"])] = visitor.me


def _correct(visitor: Worker) -> None:
    shown = visitor.send(f"task show {visitor.chance.randint(1, 9)}").json
    for entry in shown.get("entries", [])[:1]:
        if visitor.send(f"ledger correct {entry['entry_id']} --reason", "never agreed").code == 0:
            visitor.report.corrected.append(entry["entry_id"])


def _hire(visitor: Worker) -> None:
    name = f"n{visitor.number}-{visitor.turn}"
    line = f"user add {name} --email {name}@popug.example --role worker --password-stdin"
    if visitor.send(line, typed=f"{WORD}\n").code == 0:
        visitor.report.hired.append(name)


def _import(visitor: Worker) -> None:
    file = visitor.home.with_name(f"lines-{visitor.number}.jsonl")
    lines = [f"Line {visitor.chance.randrange(20)}" for _ in range(3)]
    file.write_text("".join(json.dumps({"title": line}) + "\n" for line in lines), encoding="utf-8")
    visitor.send("tasks import", str(file), by=visitor.me)


def _shuffle(visitor: Worker) -> None:
    shuffled = visitor.send("tasks shuffle --yes", by="mia").json
    if shuffled:
        visitor.send(f"tasks verify {shuffled['shuffle_id']}", by=visitor.me)


def _doctor_and_dead(visitor: Worker) -> None:
    line = ("user set-role {} accountant", "user set-role {} worker", "user deactivate {}", "user activate {}")
    visitor.send(visitor.chance.choice(line).format(visitor.extra()))


def _credentials(visitor: Worker) -> None:
    name = visitor.extra()
    if visitor.turn % 2:
        visitor.send(f"user passwd {name} --password-stdin", typed=f"{WORD}\n")
        return
    issued = visitor.send(f"token issue {name} --ttl 1d").json
    if issued:
        visitor.send(f"token revoke {issued['token_id']}")


def _found_again(visitor: Worker) -> None:
    visitor.send("init --admin ada --email a@popug.example --password-stdin", typed=f"{WORD}\n")
    visitor.send("events drop 4711 --reason", "it is not there")


def _backup(visitor: Worker) -> None:
    if place.is_on_server(visitor.home):
        return  # PostgreSQL's own tools do that
    file = visitor.home.with_name(f"backup-{visitor.number}-{visitor.turn}")
    visitor.send("backup", str(file))
    file.unlink(missing_ok=True)


def _ask(*lines: str) -> Callable[[Worker], None]:
    def ask(visitor: Worker) -> None:
        visitor.send(visitor.chance.choice(lines).format(me=visitor.me, number=visitor.chance.randint(1, 30)))

    return ask


KINDS: dict[str, tuple[int, Callable[[Worker], None]]] = {
    "add": (24, _add),
    "complete": (20, _complete),
    "correct": (3, _correct),
    "hire": (2, _hire),
    "import": (3, _import),
    "shuffle": (3, _shuffle),
    "people": (4, _doctor_and_dead),
    "credentials": (3, _credentials),
    "e-mail": (1, _ask("user set-email e1 e{number}@popug.example", "user set-email e2 e{number}@popug.example")),
    "close": (2, _ask("close-day", "close-day --no-mail", "close-day --dry-run", "scheduler --once")),
    "mail": (2, _ask("mail send", "mail list", "mail retry 4711")),
    "money": (10, _ask("balance {me}", "statement {me}", "income", "analytics", "explain balance {me}")),
    "look": (8, _ask("task show {number}", "explain task {number}", "explain income", "tasks list --all", "whoami")),
    "people asked": (3, _ask("user list", "user show {me}", "token list", "token keys", "permissions", "today")),
    "events": (5, _ask("events status", "events dead", "events trace {number}", "events list --limit 20")),
    "events moved": (2, _ask("events retry --all", "events replay", "events replay --verify")),
    "proofs": (2, _ask("doctor", "ledger verify", "tasks fairness", "ledger export --format csv", "tasks export")),
    "keeping": (1, _backup),
    "settings": (1, _ask("config show", "config set mail.from cage{number}@popug.example", "token rotate")),
    "refused": (1, _found_again),
}
