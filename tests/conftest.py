"""What holds for every test: Ctrl-C reaches the programs that a test starts, also where the test run was put aside."""

import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what it starts in the background ignore the interrupt, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the companies of the acceptance tests perform: each command itself, or a server that holds the home."""
    parser.addoption("--place", choices=("here", "server"), default="here")
