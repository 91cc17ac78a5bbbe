"""The runner of commands: one warm process that forks a child for each, which starts as a new process would.

A child opens its own database connections, writes its answer into files in memory, and ends as the program does:
without closing anything.
"""

import gc
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from popug_cli.app import LocalBackend
from popug_cli.app.handlers import HANDLER_MODULES
from popug_cli.cli import main as command_line
from popug_cli.cli.program import build
from popug_cli.kernel.errors import NotFound, PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Role
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import AddUser, RegisterFirstAdmin
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import AddTask
from tests.simulation.disk import clock_and_randomness, fault_shim
from tests.simulation.disk.fault_shim import Mode
from tests.simulation.disk.snapshot import State, state_of

LIMIT_SECONDS = 60
ENVIRONMENT = {
    "POPUG_IDENTITY_ARGON2_TIME_COST": "1",
    "POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192",
    "POPUG_IDENTITY_ARGON2_PARALLELISM": "1",
    "POPUG_IDENTITY_SESSION_HOURS": "72",
    "LANG": "C.UTF-8",
}


class Order(NamedTuple):
    """One command line: its user, its time, its words, and the name of its randomness.

    ``otherwise`` is the command line to run instead if it is refused.
    """

    line: tuple[str, ...]
    at: datetime
    chance: str
    typed: str = ""
    token: str = ""
    otherwise: tuple[str, ...] = ()


class Trouble(NamedTuple):
    """The effect of the disk on a command."""

    mode: Mode = Mode.COUNT
    point: int = 0
    error: int = 0
    journal: int = fault_shim.NO_JOURNAL


class Outcome(NamedTuple):
    """The result of a child: its exit code (negative for a signal), its streams, the points, and the chosen one."""

    code: int
    stdout: str
    stderr: str
    points: int = 0
    what: str = ""

    @property
    def acknowledged(self) -> bool:
        """Return whether the answer was printed completely."""
        return self.stdout.endswith("\n")

    @property
    def error(self) -> dict[str, Any]:
        """Return the error that ``--json`` printed."""
        errors = [line for line in self.stderr.splitlines() if line.startswith('{"error"')]
        return dict(json.loads(errors[-1])["error"]) if errors else {}


class Examined(NamedTuple):
    """The doctor's result for a home: its findings, and the state of the home."""

    wrong: str
    state: State


class Aftermath(NamedTuple):
    """A home after a cut: its state as found, the result of the repeated command, and the state after it."""

    found: Examined
    again: Outcome
    ended: Examined


def warm_up(folder: Path) -> None:
    """Import everything that commands use and run a part of it, with temporary files in a folder; then freeze."""
    tempfile.tempdir = str(folder)
    for module in ("identity", "tasks", "billing", "analytics", "mail"):
        for part in ("commands", "queries", "tables"):
            _import(f"popug_cli.{module}.{part}")
    for name in (*set(HANDLER_MODULES.values()), "workflows.summaries", "local_backend"):
        _import(f"popug_cli.app.{name}")
    for name in (
        "jwt",
        "apscheduler.schedulers.base",
        "alembic.command",
        "email.policy",
        "popug_cli.platform.swap_dirs",
    ):
        _import(name)
    clock_and_randomness.install()
    program()
    _try_out(folder / "warm-up")
    gc.collect()
    gc.freeze()
    gc.disable()


def _try_out(root: Path) -> None:
    """Run everything once in this process, so that children do not repeat the slow first run."""
    clock_and_randomness.settle(datetime(2026, 3, 2, 8, 0, tzinfo=UTC), "warm-up")
    os.environ.update(ENVIRONMENT)
    local = LocalBackend(Home(root))
    admin = RegisterFirstAdmin(username="ada", email="ada@popug.example", password="seven-cages-under-9-moons")
    local.create_company("Europe/Berlin", admin)
    user = local.perform(admin)
    ada = Principal(user.username, user.user_id, user.role)
    local.perform_as(ada, AddUser(username="bob", email="bob@popug.example", role=Role.WORKER))
    local.perform_as(ada, AddTask(title="Feed the cage"))
    local.perform(CheckHealth())
    local.close()


@cache
def program() -> Any:
    """Return the command line, built once, with all commands loaded."""
    built = build()
    built.get_command(None, "")  # an unknown word loads all
    return built


def carry_out(
    root: Path, order: Order, trouble: Trouble | None = None, prepare: Callable[[], None] | None = None
) -> Outcome:
    """Run one command line on the home under ``root`` in a child."""
    streams = [os.memfd_create(name) for name in ("typed", "stdout", "stderr", "report")]
    os.write(streams[0], order.typed.encode())
    os.lseek(streams[0], 0, os.SEEK_SET)
    child = os.fork()
    if child == 0:
        _be_a_process(root, order, trouble, prepare, streams)
    try:
        _, status = os.waitpid(child, 0)
        stdout, stderr, report = (_content(stream) for stream in streams[1:])
    finally:
        for stream in streams:
            os.close(stream)
    points, _, what = report.partition(" ")
    return Outcome(os.waitstatus_to_exitcode(status), stdout, stderr, int(points or 0), what)


def examine(root: Path, order: Order) -> Examined:
    """Run the doctor, which lets consumers catch up."""
    clock_and_randomness.settle(order.at, order.chance)
    return _examined(root)


def aftermath(root: Path, order: Order) -> Aftermath:
    """Return the doctor's finding, the command's repeat, and the doctor's finding after it; all in this process."""
    found = examine(root, order)
    return Aftermath(found, give(root, order), examine(root, order))


def give(root: Path, order: Order) -> Outcome:
    """Run a command line in this process; if it is refused, run its replacement."""
    outcome = _given(root, order)
    if outcome.code and order.otherwise:
        _given(root, order._replace(line=order.otherwise))
    gc.collect()
    return outcome


def _given(root: Path, order: Order) -> Outcome:
    clock_and_randomness.settle(order.at, order.chance)
    streams, environment = (sys.stdin, sys.stdout, sys.stderr), dict(os.environ)
    files = [io.BytesIO(order.typed.encode()), io.BytesIO(), io.BytesIO()]
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(file, encoding="utf-8") for file in files)
    try:
        _set_environment(root, order)
        code = command_line.run(list(order.line), program())
        sys.stderr.flush()
        return Outcome(code, files[1].getvalue().decode(), files[2].getvalue().decode())
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        os.environ.clear()
        os.environ.update(environment)


def _examined(root: Path) -> Examined:
    try:
        return Examined(_diagnosis(root), state_of(Home(root / "home")))
    except Exception as error:  # any error is a result of the examination
        return Examined(f"{type(error).__name__}: {error}", {})


def _diagnosis(root: Path) -> str:
    local = LocalBackend(Home(root / "home"))
    try:
        health = local.perform(CheckHealth())
    except NotFound:
        return ""
    except PopugError as error:
        return f"{error.code}: {error.message}"
    finally:
        local.close()
    return "; ".join(f"{check.name}: {check.detail}" for check in health.checks if not check.ok)


def later(order: Order, **duration: float) -> Order:
    """Return the same command line at a later time."""
    return order._replace(at=order.at + timedelta(**duration))


def _be_a_process(
    root: Path, order: Order, trouble: Trouble | None, prepare: Callable[[], None] | None, streams: list[int]
) -> None:
    code = 70
    try:
        _leave_terminal_alone()
        _wire(root, order, streams)
        if prepare is not None:
            prepare()
        if trouble is not None:
            fault_shim.forget_chance()
            fault_shim.arm(root, trouble.mode, trouble.point, trouble.error, trouble.journal)
        code = command_line.run(list(order.line), program())
        sys.stderr.flush()
        if trouble is not None:
            points, what = fault_shim.disarm()
            os.write(streams[3], f"{points} {what}".encode())
    except BaseException:
        fault_shim.disarm()
        os.write(streams[2], traceback.format_exc().encode())
    finally:
        os._exit(code)


def _wire(root: Path, order: Order, streams: list[int]) -> None:
    for descriptor in range(3):
        os.dup2(streams[descriptor], descriptor)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    _set_environment(root, order)
    clock_and_randomness.settle(order.at, order.chance)


def _set_environment(root: Path, order: Order) -> None:
    for name in [name for name in os.environ if name.startswith("POPUG_") and name != fault_shim.MARK]:
        del os.environ[name]
    os.environ.update(ENVIRONMENT)
    os.environ["POPUG_HOME"], os.environ["POPUG_SESSION"] = str(root / "home"), str(root / "session.json")
    if order.token:
        os.environ["POPUG_TOKEN"] = order.token


def _leave_terminal_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(LIMIT_SECONDS)


def _content(descriptor: int) -> str:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, size, 0).decode(errors="replace")


def _import(name: str) -> None:
    if find_spec(name) is not None:
        import_module(name)
