"""The scheduler as a process whose wall clock a test shifts while it sleeps."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.billing_company import check_books
from tests.support.company import InProcess, SetClock
from tests.support.scheduler_fixture import create_company, earn, weak_hash
from tests.support.wall_clock import WallClock

__all__ = ["weak_hash"]

LONGEST_SECONDS = 45
ZONE = "Europe/Berlin"


class Running:
    """A running scheduler, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._rest = process, b""

    def line(self) -> dict[str, Any]:
        """Return the next line, within a time limit."""
        assert self._process.stdout is not None
        until = time.monotonic() + LONGEST_SECONDS
        while b"\n" not in self._rest:
            ready = select.select([self._process.stdout], [], [], max(0, until - time.monotonic()))[0]
            assert ready, "it printed nothing in time"
            more = os.read(self._process.stdout.fileno(), 65536)
            assert more, self._process.stderr and self._process.stderr.read()
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        report: dict[str, Any] = json.loads(line)
        return report

    def closed(self) -> list[str]:
        """Return the days that the next run closes."""
        return [day["business_date"] for day in self.line()["days"]]

    def end(self) -> None:
        """End it; it must end in time without an error."""
        self._process.send_signal(signal.SIGTERM)
        _, complaint = self._process.communicate(timeout=LONGEST_SECONDS)
        assert (self._process.returncode, complaint) == (0, b"")


@contextmanager
def scheduler(root: Path, wall: WallClock, *arguments: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "popug_cli", "--home", str(root), "--json", "scheduler", *arguments]
    process = subprocess.Popen(command, env=wall.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()


def popug(root: Path, wall: WallClock, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "popug_cli", "--home", str(root), "--json", *arguments]
    return subprocess.run(command, env=wall.environment, capture_output=True, text=True, check=False)


def test_clock_jump_is_noticed_within_seconds(tmp_path: Path) -> None:
    wall = WallClock(tmp_path, ZONE)
    company = create_company(tmp_path / "home", ZONE)
    for day in ("2026-03-02", "2026-03-03"):
        company.clock.instant = datetime.fromisoformat(f"{day}T09:00:00+00:00")
        earn(company)
    wall.set("2026-03-05 09:00")
    with scheduler(company.root, wall) as running:
        assert running.line()["closes"] == "2026-03-02"
        off = running.line()
        assert [day["business_date"] for day in off["days"]] == ["2026-03-02", "2026-03-03", "2026-03-04"]
        assert off["mail"]["sent"] == 2
        wall.set("2026-03-06 00:06")
        assert running.closed() == ["2026-03-05"]
        wall.set("2026-02-01 12:00")
        assert running.closed() == []
        for now in ("2029-03-06 09:00", "2029-03-07 09:00"):
            wall.set(now)
            report = running.line()
            assert (report["days"], report["next"]["needs_yes"]) == ([], True)
            assert report["next"]["overdue_days"] > 1000
        wall.set("2026-03-07 00:06")
        assert running.closed() == ["2026-03-06"]
        running.end()
    check_books(company.rows)


def test_years_need_yes_and_doctor_reports_overdue_days(tmp_path: Path) -> None:
    wall = WallClock(tmp_path, ZONE)
    company = create_company(tmp_path / "home", ZONE)
    earn(company)
    wall.set("2029-03-02 09:00")
    refused = popug(company.root, wall, "scheduler", "--once")
    assert (refused.returncode, json.loads(refused.stderr)["error"]["code"]) == (2, "needs_yes")
    checks = {
        check["name"]: check["detail"] for check in json.loads(popug(company.root, wall, "doctor").stdout)["checks"]
    }
    assert checks["overdue_days"].startswith("1,096 days are open since 2026-03-02; too many")
    wall.set("2026-04-11 09:00")
    done = popug(company.root, wall, "scheduler", "--once", "--yes")
    assert (done.returncode, len(json.loads(done.stdout)["days"])) == (0, 40)


def test_once_closes_after_its_hour_and_only_once(tmp_path: Path) -> None:
    wall = WallClock(tmp_path, ZONE)
    company = create_company(tmp_path / "home", ZONE)
    earn(company)
    runs = []
    for now in ("2026-03-03 02:29", "2026-03-03 02:30", "2026-03-03 05:30"):
        wall.set(now)
        done = popug(company.root, wall, "scheduler", "--once", "--at", "02:30")
        run = json.loads(done.stdout)
        runs.append((done.returncode, [day["business_date"] for day in run["days"]], run["mail"]["sent"]))
    assert runs == [(0, [], 0), (0, ["2026-03-02"], 1), (0, [], 0)]
    assert len(list(company.root.glob("mail/new/*"))) == 1


@pytest.mark.parametrize(
    ("zone", "morning", "at", "before", "closes"),
    [
        (ZONE, "2026-03-29T09:00", "00:00", "2026-03-29 23:59:57", "2026-03-29"),  # of 23 hours
        (ZONE, "2026-10-25T09:00", "00:00", "2026-10-25 23:59:57", "2026-10-25"),  # of 25 hours
        (ZONE, "2026-03-28T09:00", "02:30", "2026-03-29 01:59:57", "2026-03-28"),  # no such hour
        ("Africa/Cairo", "2024-04-25T09:00", "00:05", "2024-04-25 23:59:57", "2024-04-25"),  # no midnight
        ("Pacific/Apia", "2011-12-29T20:00", "00:00", "2011-12-29 23:59:57", "2011-12-29"),  # no such day
    ],
)
def test_scheduler_wakes_at_local_hour_also_if_it_is_skipped(
    tmp_path: Path, zone: str, morning: str, at: str, before: str, closes: str
) -> None:
    wall = WallClock(tmp_path, zone)
    company: InProcess = create_company(tmp_path / "home", zone, SetClock(datetime.fromisoformat(f"{morning}+00:00")))
    wall.set(before)
    with scheduler(company.root, wall, "--at", at) as running:
        assert running.line()["closes"] == closes
        days = running.closed()
        if not days:
            days = running.closed()
        assert days == [closes]
        running.end()
