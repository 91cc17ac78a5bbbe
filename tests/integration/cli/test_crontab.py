"""`scheduler install --cron --write` replaces its own line in the crontab and keeps all other lines."""

import os
from pathlib import Path

import pytest

from popug_cli.cli.install.schedule_units import cron_plan
from popug_cli.cli.main import run as run_popug
from popug_cli.kernel.errors import Unavailable
from tests.support.scheduler_fixture import create_company, schedule, weak_hash

__all__ = ["weak_hash"]


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for crontab(1) that keeps the table in a file."""
    table, program = tmp_path / "table", tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -l ]; then cat "{table}" 2>/dev/null || {{ echo "no crontab for me" >&2; exit 1; }}\n'
        f'else cat > "{table}"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return table


def test_second_write_replaces_line_and_keeps_other_lines(crontab: Path) -> None:
    crontab.write_text("MAILTO=ada\n0 4 * * *  true\n")
    for at_minute in (5, 10):
        cron_plan(schedule(at_minute=at_minute)).write()
    lines = crontab.read_text().splitlines()
    assert lines[:2] == ["MAILTO=ada", "0 4 * * *  true"]
    assert lines[2:] == [*cron_plan(schedule(at_minute=10)).texts()]


def test_lines_of_two_homes_are_both_kept(tmp_path: Path, crontab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company, other = create_company(tmp_path / "home", "UTC"), create_company(tmp_path / "other", "UTC")
    for each in (company, other):
        monkeypatch.setenv("POPUG_HOME", str(each.root))
        assert run_popug(["scheduler", "install", "--cron", "--write"]) == 0
    written = crontab.read_text()
    assert [f"--home {each.root} " in written for each in (company, other)] == [True, True]
    monkeypatch.delenv("POPUG_HOME")
    assert run_popug(["--home", str(company.root), "scheduler", "install", "--cron", "--write"]) == 0
    assert sorted(crontab.read_text().splitlines()) == sorted(written.splitlines())


@pytest.mark.parametrize(
    "message",
    [
        "crontab: can't open 'root': No such file or directory",  # BusyBox
        "no crontab for root",
        "crontab: no crontab for root",
        "No crontab for root",
        "no crontab for me",
    ],
)
def test_first_line_is_written_where_there_is_no_crontab(crontab: Path, message: str) -> None:
    say_for_no_crontab(crontab, message)
    cron_plan(schedule()).write()
    assert crontab.read_text().splitlines() == [*cron_plan(schedule()).texts()]


@pytest.mark.parametrize(
    "message",
    [
        "crontab: can't open 'root': Permission denied",
        "You (root) are not allowed to use this program",
        "you are not allowed to use this program",
    ],
)
def test_crontab_that_cannot_be_read_is_not_replaced(crontab: Path, message: str) -> None:
    say_for_no_crontab(crontab, message)
    with pytest.raises(Unavailable, match=r"^The crontab cannot be used: ") as refusal:
        cron_plan(schedule()).write()
    assert refusal.value.code == "no_crontab"
    assert not crontab.exists()


def test_crontab_that_fails_silently_is_named_by_its_status(crontab: Path) -> None:
    program = crontab.parent / "bin" / "crontab"
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(Unavailable, match=r"^The crontab cannot be used: `crontab -l` ended with exit status 3\.$"):
        cron_plan(schedule()).write()


def say_for_no_crontab(crontab: Path, message: str) -> None:
    program = crontab.parent / "bin" / "crontab"
    program.write_text(program.read_text().replace("no crontab for me", message))


@pytest.mark.parametrize(
    "foreign",
    [
        "0 4 * * *  echo a\u2028b \x85 c \u2029\n".encode(),
        b"0 4 * * *  echo a\x0cb\x0bc\x1cd\x1ee\rf\n",
        b"# caf\xe9\n\n\n",
        b"MAILTO=ada\r\n",
        b"\n",
    ],
)
def test_foreign_crontab_lines_stay_byte_for_byte(crontab: Path, foreign: bytes) -> None:
    crontab.write_bytes(foreign)
    cron_plan(schedule()).write()
    own = crontab.read_bytes().removeprefix(foreign)
    assert own == "".join(f"{text}\n" for text in cron_plan(schedule()).texts()).encode()
    crontab.write_bytes(foreign + own + foreign)
    cron_plan(schedule()).write()
    assert crontab.read_bytes() == foreign + own + foreign


def test_last_line_without_an_end_gets_one(crontab: Path) -> None:
    crontab.write_bytes(b"0 4 * * *  true")
    cron_plan(schedule()).write()
    assert crontab.read_text().splitlines() == ["0 4 * * *  true", *cron_plan(schedule()).texts()]


@pytest.mark.parametrize(
    "beneath",
    [
        "0 4 * * *  true",
        f" #{cron_plan(schedule()).line}",
        cron_plan(schedule("/srv/popug2")).line,
        f"{cron_plan(schedule()).line} && mine",
    ],
)
def test_only_a_line_of_this_home_is_replaced(crontab: Path, beneath: str) -> None:
    plan = cron_plan(schedule())
    foreign = [plan.comment, beneath, "0 5 * * *  true"]
    crontab.write_text("\n".join(foreign) + "\n")
    for _ in range(2):
        plan.write()
        assert crontab.read_text().splitlines() == [*foreign, *plan.texts()]


def test_comment_of_the_user_is_not_replaced(crontab: Path) -> None:
    plan = cron_plan(schedule())
    crontab.write_text(f"# popug-close-day, by Ada\n{plan.line}\n")
    plan.write()
    assert crontab.read_text().splitlines() == ["# popug-close-day, by Ada", plan.line, *plan.texts()]


def test_line_under_another_comment_is_replaced_in_place(crontab: Path) -> None:
    plan = cron_plan(schedule())
    crontab.write_text(f"# popug-close-day\n{plan.line.replace('5', '9', 1)}\nMAILTO=ada\n")
    plan.write()
    assert crontab.read_text().splitlines() == [*plan.texts(), "MAILTO=ada"]


def test_write_refused_without_cron(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as refusal:
        cron_plan(schedule()).write()
    assert refusal.value.code == "no_crontab"
