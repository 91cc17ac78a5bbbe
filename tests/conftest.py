"""Common setup of every test: its environment, and that signals reach the programs that it starts."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.postgres.programs import HOW_TO_INSTALL, require_postgres, what_is_missing
from tests.support.postgres.server import PostgresServer
from tests.support.postgres.shared import shared_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell makes its background jobs ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # nohup does so for the hangup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


PLACES = ("local", "server", "postgres", "cluster")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the acceptance tests choose what performs a command, and where its data is.

    A command's own process does it on a SQLite file (``local``) or on PostgreSQL (``postgres``), or a server that holds
    the home does, or the services of a cluster do (``cluster``).
    """
    parser.addoption("--place", choices=PLACES, default=PLACES[0], help="where acceptance tests perform commands")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a place that does not exist, instead of running the tests in another one."""
    place = config.getoption("--place")
    if place == "postgres" and (missing := what_is_missing()):
        raise pytest.UsageError(f"--place={place}: {missing}; install {HOW_TO_INSTALL}.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use twice as many workers as processors: tests wait a third of the time for a clock or a program."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """The PostgreSQL server of this run of the tests, which all its processes share."""
    require_postgres()
    folder = tmp_path_factory.getbasetemp()
    return shared_server((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "postgres")


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


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Restore the variables of popug, which a command that is run in this process may set for its own process."""
    before = {name: text for name, text in os.environ.items() if name.startswith("POPUG_")}
    yield
    for name in [name for name in os.environ if name.startswith("POPUG_") and name not in before]:
        del os.environ[name]
    os.environ.update(before)
