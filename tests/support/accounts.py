"""Commands run by several accounts of the system, which only the superuser can do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.identity_company import CHEAP

PATIENCE_SECONDS = 120
ROOT, OWNER, OTHER = 0, 54321, 54322
PASSWORD = "seven-cages-under-9-moons"
SOURCE = Path(__file__).parents[2]

only_root = pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can run commands as other accounts")


@cache
def interpreter() -> str:
    """Return a Python that other accounts can run: this one, or the system's; skip if there is none."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            subprocess.run([path, "-c", ""], user=OTHER, group=OTHER, extra_groups=[], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("other accounts cannot run a Python of this system")


def run_as(
    account: int, *arguments: str, home: Path, folder: Path, program: tuple[str, ...] = ("-m", "popug_cli")
) -> "subprocess.CompletedProcess[str]":
    """Run a command as an account, with the password on stdin and HOME in a folder."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return subprocess.run(
        [interpreter(), *program, *arguments],
        user=account,
        group=account,
        extra_groups=[],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd="/",
        env={
            "HOME": str(folder),
            "POPUG_HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join([str(SOURCE), *packages]),
            **CHEAP,
        },
    )


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Yield a folder that every account can enter; skip if other accounts cannot run this Python."""
    folder = Path(mkdtemp(prefix="popug-accounts-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        if run_as(OTHER, "--version", home=folder / "home", folder=folder).returncode != 0:
            pytest.skip("other accounts cannot read this program")
        yield folder
    finally:
        shutil.rmtree(folder)


def own_folder(folder: Path, account: int) -> Path:
    """Create a folder that belongs to an account."""
    folder.mkdir()
    folder.chmod(0o755)
    os.chown(folder, account, account)
    return folder


def owners(folder: Path) -> set[int]:
    """Return the accounts that own something in a folder."""
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
