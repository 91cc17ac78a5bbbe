"""The pytest plugin for mutmut: tests in this process only, the likely ones first, up to a limit of time."""

import importlib.util
import os
import resource
import tempfile
import time
from pathlib import Path

import pytest
from mutmut.state import state

SECONDS = "POPUG_MUTATION_SECONDS"
ENOUGH_SECONDS = 15.0
TIMES_LONGER = 5
CLEAN = ""  # mutmut's name for the unchanged program
ELSEWHERE = {  # they start programs, wait for them, or change the text of a module
    f"tests/integration/{folder}/test_{subject}.py"
    for folder, subjects in {
        "billing": "closing_races",
        "bus": "streams_bugs",
        "cli": "examples hostile_text scheduler_install server_option shell_completion",
        "client": "remote_backend",
        "daemon": "scheduler_clock scheduler_command",
        "dashboard": "dashboard",
        "identity": "prehash",
        "mail": "aiosmtpd smtp",
        "services": "coverage_model",
        "server": "serve serve_bad_clients serve_life serve_node serve_schema serve_users",
        "storage": "file_permissions releases write_lock",
        "whole": "environment local_remote_parity signals",
    }.items()
    for subject in subjects.split()
}


def pytest_ignore_collect(collection_path: os.PathLike[str]) -> bool | None:
    """Leave out the files whose tests start programs or wait."""
    return True if any(os.fspath(collection_path).endswith(file) for file in ELSEWHERE) else None


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests named after the mutant's module or package first, then the fast ones."""
    mutant = os.environ.get("MUTANT_UNDER_TEST", "")
    if "__mutmut_" not in mutant:
        return
    package, module = mutant.split(".")[1:3]
    config.args.sort(key=lambda test: (module not in _file(test), package not in _file(test), _seconds(test), test))
    enough, total = float(os.environ.get(SECONDS, ENOUGH_SECONDS)), 0.0
    for count, test in enumerate(config.args, start=1):
        total += _seconds(test)
        if total > enough:
            del config.args[count:]
    _limit(total)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run one test of the unchanged program: all of them passed already when they were measured."""
    if os.environ.get("MUTANT_UNDER_TEST") == CLEAN:
        del items[1:]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first mutant, import what a home needs, so that every fork has it."""
    if session.config.option.collectonly and importlib.util.find_spec("popug_cli.bootstrap"):
        from tests.support.billing_company import BillingCompany

        with tempfile.TemporaryDirectory() as folder:
            BillingCompany(Path(folder)).runtime.database.close()


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count the set-up and tear-down of a test, too; mutmut itself counts the call only."""
    if os.environ.get("MUTANT_UNDER_TEST") == "stats" and call.when != "call":
        state().duration_by_test[item.nodeid] += call.duration


def _file(test: str) -> str:
    return test.partition("::")[0]


def _seconds(test: str) -> float:
    return state().duration_by_test.get(test, 0.0)


def _limit(seconds: float) -> None:
    """End a mutant that never ends by itself: limit its processor time, so that other load does not count."""
    limit = int(time.process_time() + TIMES_LONGER * (seconds + 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
