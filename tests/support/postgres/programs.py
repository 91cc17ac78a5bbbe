"""The programs of PostgreSQL on this machine, and the account that runs them."""

import os
import pwd
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

OLDEST_MAJOR_VERSION = 15
DEBIAN = Path("/usr/lib/postgresql")
ROOT = 0
ACCOUNTS = ("postgres", "nobody")
HOW_TO_INSTALL = "Debian's package postgresql and the extra `postgres` of popug"


def require_postgres() -> None:
    """Skip the tests if PostgreSQL or its driver is missing; fail them if ``CI`` is set, since CI installs both.

    A module that imports the driver calls it first.
    """
    missing = what_is_missing()
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing}; install {HOW_TO_INSTALL}", pytrace=False)
    if missing:
        pytest.skip(f"{missing}; install {HOW_TO_INSTALL}", allow_module_level=True)


@cache
def what_is_missing() -> str:
    """Return why no server can be started here, or an empty text."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if directory() is None:
        return f"PostgreSQL {OLDEST_MAJOR_VERSION} or newer is not installed"
    if os.geteuid() == ROOT and account() is None:
        return "PostgreSQL does not run as root, and there is no account postgres or nobody"
    return ""


@cache
def directory() -> Path | None:
    """Return the directory of the newest PostgreSQL that is new enough: of Debian's packages, or on the PATH."""
    found = [path.parent for path in DEBIAN.glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    versions = {bin_: _major_version(bin_) for bin_ in found}
    newest = max(versions, key=lambda each: versions[each], default=None)
    return newest if newest and versions[newest] >= OLDEST_MAJOR_VERSION else None


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL."""
    found = directory()
    assert found is not None, what_is_missing()
    return str(found / name)


@cache
def account() -> pwd.struct_passwd | None:
    """Return the account that runs PostgreSQL, which refuses root; None if this process's own account does."""
    if os.geteuid() != ROOT:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in ACCOUNTS if name in known), None)


def as_account(*line: str) -> list[str]:
    """Return a command line that runs as the account of PostgreSQL, and ends if this thread ends (SIGQUIT)."""
    setpriv = shutil.which("setpriv")
    chosen = account()
    if setpriv is None:
        assert chosen is None, "setpriv of util-linux is not installed"
        return [*line]
    change = [f"--reuid={chosen.pw_uid}", f"--regid={chosen.pw_gid}", "--clear-groups"] if chosen else []
    return [setpriv, *change, "--pdeathsig=QUIT", "--", *line]


def _major_version(bin_: Path) -> int:
    said = subprocess.run([bin_ / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\) (\d+)", said)
    return int(match[1]) if match else 0
