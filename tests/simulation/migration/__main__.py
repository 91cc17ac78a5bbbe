"""``python -m tests.simulation.migration``: the first start after an upgrade is killed, the next one finishes.

It is killed before each statement of the migrations and before each opening of a database. The next start must end
like an undisturbed migration, with a complete backup of the earlier home.
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from popug_cli.app import LocalBackend
from popug_cli.identity.keys import create_first_key
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth
from popug_cli.storage.migrate import NEWEST, migrate_if_older, version_of
from tests.generate.releases import kept_releases, unpack
from tests.support.company import SeededChance

MOST_POINTS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a start after a kill does not finish the migration."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.migration", description=__doc__)
    parser.add_argument(
        "--release", choices=kept_releases(), default=kept_releases()[0], help="the last migration of the home"
    )
    parser.add_argument("--point", type=int, help="replay: only this one")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth point")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="popug-migration-") as name:
        shop = Path(name)
        _in_a_child(lambda: _unpack(shop, chosen.release))
        points = range(1, MOST_POINTS, chosen.every) if chosen.point is None else [chosen.point]
        done = 0
        for point in points:
            if chosen.progress:
                print(f"\r{done} kills", end="", file=sys.stderr)
            wrong, was_killed = _trial(shop, point)
            if wrong:
                print(
                    f"{wrong}\nreplay: python -m tests.simulation.migration --release {chosen.release} --point {point}"
                )
                return 1
            if not was_killed:
                break
            done += 1
    print(f"{done} kills in {time.perf_counter() - began:.1f} s, each migration from {chosen.release} was finished")
    return 0


def _unpack(shop: Path, release: str) -> str:
    for name in ("before", "undisturbed"):
        home = Home(shop / name)
        unpack(release, home)
        with ExitStack() as on_rollback:
            create_first_key(home, SeededChance(5), on_rollback)
    migrate_if_older(Home(shop / "undisturbed"))
    return ""


def _trial(shop: Path, point: int) -> tuple[str, bool]:
    """Return the fault after a kill at that point, and whether that point was reached."""
    home = Home(shop / "home")
    shutil.rmtree(home.root, ignore_errors=True)
    shutil.copytree(shop / "before", home.root)
    code, _ = _in_a_child(lambda: _killed_at(point, home))
    if code not in {0, -signal.SIGKILL}:
        return f"the migration itself ended with {code}", False
    _, wrong = _in_a_child(lambda: _finished(home, Home(shop / "undisturbed")))
    return wrong, code != 0


def _killed_at(point: int, home: Home) -> str:
    left = [point]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda name, _: count() if name == "sqlite3.connect" else None)
    event.listen(Engine, "before_cursor_execute", count)
    migrate_if_older(home)
    return ""


def _finished(home: Home, undisturbed: Home) -> str:
    """Return the fault after the next start."""
    backend = LocalBackend(home)
    health = backend.perform(CheckHealth())
    if bad := [f"{check.name}: {check.detail}" for check in health.checks if not check.ok]:
        return "; ".join(bad)
    if version_of(home.database) != NEWEST or _schema(home) != _schema(undisturbed):
        return f"the next start left it at {version_of(home.database)}"
    backups = [*home.backups.glob("before-migration-*.db")]
    if not any(_rows(backup) == _rows(undisturbed.database) for backup in backups):
        return "there is no whole backup of what was there before"
    return ""


def _schema(home: Home) -> list[Any]:
    with closing(sqlite3.connect(home.database)) as database:
        return database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()


def _rows(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as opened:
        return opened.execute("SELECT sequence, envelope FROM bus_log").fetchall()


def _in_a_child(work: Callable[[], str]) -> tuple[int, str]:
    """Run work in a child. Return how it ended, and its output."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(reader)
            os.write(writer, work().encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as reading:
        said = reading.read().decode()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said


if __name__ == "__main__":
    sys.exit(main())
