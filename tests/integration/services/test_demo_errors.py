"""Errors of `popug demo --brokers` before it makes anything: options, packages, and servers that cannot be used."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed_company import PROGRAM

LIMIT_SECONDS = 60
CLOSED = "127.0.0.1:1"  # no program listens there


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "tmp").mkdir()
    passed = {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}
    return passed | {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}


def refusal(environment: Mapping[str, str], *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the error of a demo, which leaves nothing in its folder for temporary files."""
    done = subprocess.run(
        [*PROGRAM, "demo", *options, "--json"],
        env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_SECONDS, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert list(Path(environment["TMPDIR"]).iterdir()) == []
    (line,) = done.stderr.splitlines()
    return done.returncode, json.loads(line)["error"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--database", "postgresql://db"), "usage"),
        (("--brokers", ""), "usage"),
        (("--brokers", CLOSED, "--database", " "), "usage"),
        (("--brokers", CLOSED, "--home", "/tmp/popug-demo-home"), "usage"),
        (("--brokers", "http://kafka"), "invalid_setting"),
        (("--brokers", "kafka:99999"), "invalid_setting"),
    ],
)
def test_wrong_option_is_refused(environment: Mapping[str, str], options: tuple[str, ...], code: str) -> None:
    status, error = refusal(environment, *options)
    assert (status, error["code"]) == (2, code)


def test_unreachable_brokers_are_named(environment: Mapping[str, str]) -> None:
    status, error = refusal(environment, "--brokers", CLOSED)
    assert (status, error["code"]) == (8, "brokers_unavailable")
    assert CLOSED in error["message"]
    assert "--brokers" in error["hint"]


def test_missing_extra_is_named(environment: Mapping[str, str], tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "confluent_kafka.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ImportError('hidden by the test', name='confluent_kafka')\n")
    status, error = refusal({**environment, "PYTHONPATH": str(hidden.parent)}, "--brokers", CLOSED)
    assert (status, error["code"]) == (8, "brokers_unavailable")
    assert "popug[cluster]" in error["hint"]
