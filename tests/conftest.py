"""Common setup of every test: its environment, and that signals reach the programs that it starts."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell makes its background jobs ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # nohup does so for the hangup.
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
    """Refuse a place that does not exist yet, instead of running the tests in another one."""
    if issue := PLACES_TO_COME.get(config.getoption("--place")):
        comes = f'comes with the issue "{issue}"'
        raise pytest.UsageError(f"--place={config.getoption('--place')} {comes}; use {' or '.join(PLACES)}.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use twice as many workers as processors: tests wait a third of the time for a clock or a program."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Restore the handler of SIGINT, which a command run in this process may leave ignored.

    Callbacks of the garbage collector are removed during a test. Hypothesis installs one, and an interrupt that arrives
    while it runs is printed and lost, so that the test waits for ever.
    """
    before = signal.getsignal(signal.SIGINT)
    callbacks = [callback for callback in gc.callbacks if callback.__module__.startswith("hypothesis.")]
    for callback in callbacks:
        gc.callbacks.remove(callback)
    yield
    gc.callbacks.extend(callback for callback in callbacks if callback not in gc.callbacks)
    signal.signal(signal.SIGINT, before)
