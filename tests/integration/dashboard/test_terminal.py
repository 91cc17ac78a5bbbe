"""The dashboard at a real terminal: terminals that vanish, that take no output, and signals."""

import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from popug_cli.kernel.clock import SystemClock
from popug_cli.messages.identity import IssueToken
from tests.support.company import InProcess
from tests.support.tasks_company import company_at

LIMIT_SECONDS = 30  # ten times what is promised
HEADING = b"My open tasks: none."
IGNORE_HANG_UP = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
)
ROOT = Path(__file__).parents[3]
# Before the function is called, the process says so and waits until it is released.
HOLD = """
import importlib.abc, importlib.machinery, operator, os, sys, time
from pathlib import Path

class Holder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "{module}":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_patch(module):
            execute(module)
            owner, function = "{function}".split(".")
            original = getattr(getattr(module, owner), function)

            def held(*words, **options):
                Path(os.environ["REACHED"]).touch()
                while not os.path.exists(os.environ["RELEASED"]):
                    time.sleep(0.02)
                return original(*words, **options)

            setattr(getattr(module, owner), function, held)

        spec.loader.exec_module = execute_and_patch
        return spec

sys.meta_path.insert(0, Holder())
"""


class Screen:
    """A dashboard in a process of its own, at a terminal of 80 x 24, whose other end the test holds."""

    def __init__(self, *, ignores_hang_up: bool) -> None:
        self.end, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        self.attributes = termios.tcgetattr(terminal)
        ignoring = [sys.executable, "-c", IGNORE_HANG_UP] if ignores_hang_up else []
        self.process = subprocess.Popen(
            [*ignoring, sys.executable, "-m", "popug_cli", "dashboard"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=os.environ | {"TERM": "xterm"},
            start_new_session=True,
        )
        self.terminal: int | None = terminal

    def read_until(self, text: bytes) -> None:
        """Read the screen until it has shown a text."""
        shown, give_up_at = b"", monotonic() + 2 * LIMIT_SECONDS
        while text not in shown:
            assert monotonic() < give_up_at, shown
            if select.select([self.end], [], [], 0.2)[0]:
                shown += os.read(self.end, 65536)

    def vanish(self) -> None:
        """Close both ends of the terminal that the test holds."""
        os.close(self.end)
        assert self.terminal is not None
        os.close(self.terminal)
        self.terminal = None

    def close(self) -> None:
        """End the process, if the test has failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.terminal is not None:
            self.vanish()


@pytest.fixture(params=[True, False], ids=["nohup", "plain"])
def screen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A dashboard, with and without SIGHUP ignored."""
    company: InProcess = company_at(tmp_path / "home")
    company.clock.instant = SystemClock().now()
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    monkeypatch.setenv("POPUG_TOKEN", company.act("boss", IssueToken(username="kesha", ttl_seconds=86400)).token)
    screen = Screen(ignores_hang_up=request.param)
    yield screen
    screen.close()


def test_dashboard_ends_when_its_terminal_vanishes(screen: Screen) -> None:
    screen.read_until(HEADING)
    screen.vanish()
    assert screen.process.wait(LIMIT_SECONDS) == 0


@pytest.mark.parametrize("moment", ["before the watch starts", "before the dashboard draws"])
def test_dashboard_ends_when_its_terminal_vanishes_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Hold the process at that moment, while its terminal vanishes without SIGHUP."""
    company = company_at(tmp_path / "home")
    company.clock.instant = SystemClock().now()
    reached, released = tmp_path / "reached", tmp_path / "released"
    module, function = {
        "before the watch starts": ("popug_cli.dashboard.terminal_watch", "TerminalWatch.__init__"),
        "before the dashboard draws": ("textual.drivers.linux_driver", "LinuxDriver.start_application_mode"),
    }[moment]
    (tmp_path / "sitecustomize.py").write_text(HOLD.format(module=module, function=function))
    for name, value in {
        "POPUG_HOME": company.root,
        "POPUG_TOKEN": company.act("boss", IssueToken(username="kesha", ttl_seconds=86400)).token,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "REACHED": reached,
        "RELEASED": released,
    }.items():
        monkeypatch.setenv(name, str(value))
    screen = Screen(ignores_hang_up=True)
    try:
        give_up_at = monotonic() + 2 * LIMIT_SECONDS
        while not reached.exists():
            assert monotonic() < give_up_at
            time.sleep(0.02)
        screen.vanish()
        released.touch()
        assert screen.process.wait(LIMIT_SECONDS) == 0
    finally:
        screen.close()


def test_dashboard_ends_on_signal_after_its_terminal_vanished(screen: Screen) -> None:
    screen.read_until(HEADING)
    screen.vanish()
    screen.process.terminate()
    assert screen.process.wait(LIMIT_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dashboard_ends_on_signal_while_terminal_takes_no_output(screen: Screen, number: signal.Signals) -> None:
    screen.read_until(HEADING)
    for _ in range(40):  # redraw until the terminal's buffer and the writer's queue are full
        os.write(screen.end, b"\t")
        time.sleep(0.1)
    screen.process.send_signal(number)
    assert screen.process.wait(LIMIT_SECONDS) == 0
    assert screen.terminal is not None
    assert termios.tcgetattr(screen.terminal) == screen.attributes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_dashboard_and_restores_terminal(screen: Screen, number: signal.Signals) -> None:
    screen.read_until(HEADING)
    screen.process.send_signal(number)
    if number == signal.SIGHUP:
        screen.process.send_signal(signal.SIGTERM)
    screen.read_until(b"\x1b[?1049l")
    assert screen.process.wait(LIMIT_SECONDS) == 0
    assert screen.terminal is not None
    assert termios.tcgetattr(screen.terminal) == screen.attributes
