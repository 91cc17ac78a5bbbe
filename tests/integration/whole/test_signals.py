"""Signals at any moment: the ended process leaves nothing behind, and its parent sees the signal."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from popug_cli.app import local_backend
from popug_cli.cli.main import run
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.platform import signals
from popug_cli.platform.signals import Terminated, run_with_signal_handling
from popug_cli.storage.errors import PARTIAL_WORK_KEPT
from popug_cli.storage.sqlite import SqliteConnection
from tests.support.company import InProcess
from tests.support.fake_server import FakeServer

WAITING = """
import os, signal, sys, time
from pathlib import Path
from popug_cli.platform.signals import run_with_signal_handling

def work() -> int:
    try:
        print("begun", flush=True)
        for _ in range(6000):  # a signal between two instructions does not wake a sleep that begins after it
            time.sleep(0.1)
    finally:
        Path(sys.argv[1]).unlink()
    return 0

sys.exit(run_with_signal_handling(work))
"""


@pytest.fixture
def handlers_are_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_cleanup_runs_before_a_signal_ends_the_process(tmp_path: Path, number: int) -> None:
    begun = tmp_path / "begun"
    begun.touch()
    line = [sys.executable, "-c", WAITING, str(begun)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-number, "")
    assert not begun.exists()


@pytest.mark.usefixtures("handlers_are_kept")
def test_signals_are_raised_and_ignored_ones_stay_ignored() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[object] = []

    def work() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Terminated as ended:
            seen.extend((ended.number, signal.getsignal(signal.SIGINT)))
            raise
        return 0

    assert run_with_signal_handling(work) == 128 + signal.SIGTERM
    assert seen == [signal.SIGTERM, signal.SIG_IGN]
    assert run_with_signal_handling(lambda: 5) == 5
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("handlers_are_kept")
def test_second_ctrl_c_does_not_interrupt_the_cleanup() -> None:
    put_away: list[bool] = []

    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            put_away.append(True)
        return 0

    with pytest.raises(KeyboardInterrupt):
        run_with_signal_handling(work)
    assert put_away == [True]


@pytest.mark.usefixtures("handlers_are_kept")
def test_second_interrupt_is_raised_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SECOND_INTERRUPT_SECONDS", -1.0)

    def work() -> int:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    with pytest.raises(KeyboardInterrupt):
        run_with_signal_handling(work)


class Program:
    """A program whose cleanup after a signal raises another error."""

    def __init__(self, stop: BaseException) -> None:
        self._stop = stop

    def make_context(self, *_: object) -> AbstractContextManager[None]:
        return nullcontext()

    def invoke(self, _: object) -> int:
        try:
            raise self._stop
        finally:
            raise AssertionError


def test_error_during_interrupt_keeps_the_exit_of_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert run(["balance"], Program(KeyboardInterrupt())) == 130
    assert "nothing was left half done" in capsys.readouterr().err
    with pytest.raises(Terminated):
        run(["balance"], Program(Terminated(signal.SIGTERM)))
    assert run(["balance"], Program(ValueError())) == 1


def test_interrupt_after_commit_reports_that_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    with monkeypatch.context() as impatient:
        impatient.setattr(local_backend, "catch_up", interrupted)
        with pytest.raises(KeyboardInterrupt, match="what was written until then is kept"):
            company.act("boss", AddTask(title="Sweep"))
        with pytest.raises(KeyboardInterrupt) as interrupt:
            company.act("boss", ListTasks())
        assert str(interrupt.value) == ""
    assert company.act("boss", ListTasks(status=StatusFilter.ALL)).total == 1


@pytest.mark.parametrize(
    ("writes", "in_transaction", "said"), [(True, False, PARTIAL_WORK_KEPT), (True, True, ""), (False, False, "")]
)
def test_interrupted_commit_reports_if_it_was_made(writes: bool, in_transaction: bool, said: str) -> None:
    """The interrupt comes during the wait for the disk."""
    driver = Mock(in_transaction=in_transaction)
    driver.execute.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as interrupt:
        SqliteConnection(Mock(), driver, writes=writes).commit()
    assert str(interrupt.value) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [("task add x", "the server continues with the request"), ("balance", "nothing was left half done")],
)
def test_interrupt_reports_if_the_server_continues(tmp_path: Path, line: str, said: str) -> None:
    asked = threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        asked.set()
        connection.recv(1)

    with FakeServer(tmp_path / "popug.sock", [say_nothing]) as server:
        command = [sys.executable, "-m", "popug_cli", *line.split(), "--server", server.url]
        environment = os.environ | {"POPUG_TOKEN": "polly.wants.crackers"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said in error
