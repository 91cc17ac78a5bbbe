"""What holds for every test: where it runs, and that signals reach the programs that it starts."""

import os
import signal
from collections.abc import Iterator

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what it starts in the background ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So does nohup with the hangup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


PLACES = ("local", "server")
PLACES_TO_COME = {
    "postgres": "PostgreSQL, with a replica",
    "cluster": "Kafka, with several brokers",
}  # with the issue of each


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the acceptance tests choose what performs a command: its own process, or a server that holds the home."""
    places = (*PLACES, *PLACES_TO_COME)
    parser.addoption("--place", choices=places, default=PLACES[0], help="where acceptance tests perform commands")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a place that does not exist yet, so that nobody takes a run on another one for it."""
    if issue := PLACES_TO_COME.get(config.getoption("--place")):
        comes = f'comes with the issue "{issue}"'
        raise pytest.UsageError(f"--place={config.getoption('--place')} {comes}; use {' or '.join(PLACES)}.")


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
