"""Run a shell script in a mount namespace of its own, in which it may mount what it likes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

import pytest

LIMIT_SECONDS = 120
PYTHON = sys.executable


def run_in_namespace(
    script: str, environment: Mapping[str, str] | None = None, *options: str
) -> "subprocess.CompletedProcess[str]":
    """Run a script by ``sh -e`` with exactly this environment; skip the test if the system refuses namespaces.

    `options` are further options of unshare(1).
    """
    if not _are_permitted():
        pytest.skip("this system permits no mount namespaces")
    return subprocess.run(
        [*_unshare(), *options, "sh", "-ec", script],
        env={"PATH": os.environ["PATH"], "PYTHON": PYTHON, "PYTHONUTF8": "1", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )


def _unshare() -> tuple[str, ...]:
    return ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))


@cache
def _are_permitted() -> bool:
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    probe = subprocess.run([*_unshare(), "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return probe.returncode == 0
