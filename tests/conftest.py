"""Common setup of every test: its environment, and that signals reach the programs that it starts."""

import os
import signal
from collections.abc import Iterator

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell makes its background jobs ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So does nohup with the hangup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the companies of the acceptance tests perform: each command itself, or a server that holds the home."""
    parser.addoption("--place", choices=("local", "server"), default="local")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are processors: every third second of a test is spent waiting for a clock or a program."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A command interrupted in this process leaves Ctrl-C ignored, and programs of later tests would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
