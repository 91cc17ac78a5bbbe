"""cron and systemd accept the output of `scheduler install`, and run it as intended."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.cli.install.schedule_units import CloseSchedule, SystemdPlan, cron_plan, systemd_plan
from popug_cli.cli.main import run as run_popug
from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.kernel.home import Home, default_home
from popug_cli.messages.identity import IssueToken, Scope
from tests.support.company import InProcess, SetClock
from tests.support.scheduler_fixture import BERLIN, create_company, earn, schedule, weak_hash

__all__ = ["weak_hash"]

FIRES_WITHIN_SECONDS = 150
AWKWARD = '/srv/100% "pop\\ug\'s" $HOME'


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """A company whose yesterday is open, with one user to be paid for it."""
    company = create_company(tmp_path / "home", "UTC", SetClock(datetime.now(UTC) - timedelta(days=1)))
    earn(company)
    return company


# --- cron ---------------------------------------------------------------------------------------


def test_cron_line_checks_the_hour_if_zones_differ() -> None:
    assert cron_plan(schedule(at_minute=65)).line.startswith("5 1 * * *  POPUG_TOKEN=")
    elsewhere = cron_plan(schedule(machine_zone="UTC", at_minute=65)).line
    assert elsewhere.startswith('5 * * * *  [ "$(TZ=Europe/Berlin date +\\%H\\%M)" -ge 0105 ] && POPUG_TOKEN=')


@pytest.mark.parametrize(
    ("company_zone", "machine_zone", "at_minute", "minutes"),
    [
        (BERLIN, "America/New_York", 210, "30"),
        ("Asia/Kolkata", "UTC", 23 * 60 + 40, "10"),
        ("UTC", "Asia/Kathmandu", 5, "50"),
        ("Australia/Lord_Howe", "UTC", 5, "5,35"),  # its summer time differs by half an hour
    ],
)
def test_cron_minute_matches_company_zone_on_machine_clock(
    company_zone: str, machine_zone: str, at_minute: int, minutes: str
) -> None:
    plan = cron_plan(CloseSchedule(Home(Path("/srv/popug")), at_minute, company_zone, machine_zone))
    assert plan.line.startswith(f"{minutes} * * * *  ")


@pytest.mark.parametrize(
    ("zone", "at", "instants", "does"),
    [
        (BERLIN, 210, ["2026-03-28T23:30", "2026-03-29T00:30", "2026-03-29T01:30"], [False, False, True]),
        (BERLIN, 150, ["2026-03-28T23:30", "2026-03-29T00:30", "2026-03-29T01:30"], [False, False, True]),  # no 02:30
        ("Africa/Cairo", 5, ["2024-04-25T21:05", "2024-04-25T22:05"], [True, True]),  # no midnight
        ("America/New_York", 1430, ["2026-01-10T04:50", "2026-01-10T05:50"], [True, False]),
        (BERLIN, 540, ["2026-01-10T07:00", "2026-01-10T08:00"], [False, True]),
    ],
)
def test_cron_guard_skips_runs_before_the_company_hour(
    zone: str, at: int, instants: list[str], does: list[bool]
) -> None:
    line = cron_plan(CloseSchedule(Home(Path("/srv/popug")), at, zone, "Etc/UTC")).line
    guard = line.partition("  ")[2].partition(" && ")[0].replace("\\%", "%")
    found = []
    for instant in instants:
        date = f'date() {{ command date -d "$ASKED" "$@"; }}; {guard}'
        done = subprocess.run(["sh", "-c", date], env=os.environ | {"ASKED": f"{instant}+00:00"}, check=False)
        found.append(done.returncode == 0)
    assert found == does


def test_cron_line_escapes_percent_sign_and_quotes_path() -> None:
    line = cron_plan(schedule(AWKWARD)).line
    assert line.count("%") == line.count("\\%") == 1
    command = line.split("  ", 1)[1].replace("\\%", "%").partition('" ')[2]
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines()[1:3] == ["--home", AWKWARD]


def test_path_with_control_characters_is_refused() -> None:
    for plan in (cron_plan, systemd_plan):
        with pytest.raises(InvalidInput):
            plan(schedule("/srv/a\nb"))


def test_unit_name_depends_on_the_home_directory_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    homes = [str(default_home().root), "/srv/a", "/srv/b"]
    names = [schedule(home).name for home in homes]
    assert (names[0], len(set(names))) == ("popug-close-day", 3)
    for chosen in homes:
        monkeypatch.setenv("POPUG_HOME", chosen)
        assert [schedule(home).name for home in homes] == names


def test_each_home_has_a_token_file_of_its_own_by_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schedule(str(default_home().root)).token_file == "~/.config/popug/close-day.token"
    monkeypatch.setenv("POPUG_HOME", "/srv/a")
    for home in ("/srv/a", "/srv/b"):
        plan, file = cron_plan(schedule(home)), f"~/.config/popug/{schedule(home).name.removeprefix('popug-')}.token"
        assert f'POPUG_TOKEN="$(cat {file})"' in plan.line
        assert next(plan.hints(written=False)).endswith(f" > {file}")


def test_token_hint_names_the_home_unless_it_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def making(home: str) -> str:
        return next(cron_plan(schedule(home)).hints(written=False))

    usual = str(default_home().root)
    monkeypatch.delenv("POPUG_HOME", raising=False)
    assert making(usual).startswith("Create its token: popug token issue NAME ")
    assert making("/srv/a b").startswith("Create its token: popug --home '/srv/a b' token issue NAME ")
    monkeypatch.setenv("POPUG_HOME", "/srv/a b")
    assert making("/srv/a b").startswith("Create its token: popug --home '/srv/a b' token issue NAME ")
    assert making(usual).startswith(f"Create its token: popug --home {usual} token issue NAME ")


# --- systemd ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("home", ["/srv/popug", AWKWARD])
def test_systemd_takes_both_files(tmp_path: Path, home: str) -> None:
    plan = systemd_plan(schedule(home))
    SystemdPlan(tmp_path, plan.files, plan.timer).write()
    files = [str(tmp_path / name) for name in plan.files]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "popug" in line]
    assert (done.returncode, own) == (0, [])
    when = next(line for line in plan.files[plan.timer].splitlines() if line.startswith("OnCalendar="))
    calendar = subprocess.run(
        ["systemd-analyze", "calendar", when.partition("=")[2]], capture_output=True, text=True, check=True
    )
    assert f"*-*-* 00:05:00 {BERLIN}" in calendar.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("zone", "at_minute", "after", "first"),
    [
        ("Africa/Cairo", 5, "2024-04-25 12:00", "2024-04-26 03:05"),
        (BERLIN, 150, "2026-03-28 12:00", "2026-03-29 05:30"),
        ("America/Nuuk", 23 * 60 + 30, "2026-03-28 12:00", "2026-03-29 02:30"),
        ("Antarctica/Troll", 90, "2026-03-28 12:00", "2026-03-29 04:30"),
        (BERLIN, 5, "2026-06-10 12:00", "2026-06-11 00:05"),
    ],
)
def test_timer_fires_also_on_a_day_without_its_hour(zone: str, at_minute: int, after: str, first: str) -> None:
    plan = systemd_plan(CloseSchedule(Home(Path("/srv/popug")), at_minute, zone, "UTC"))
    timer = plan.files[plan.timer].splitlines()
    calendar = subprocess.run(
        ["systemd-analyze", "calendar", f"--base-time={after}:00"]
        + [line.partition("=")[2] for line in timer if line.startswith("OnCalendar=")],
        env=os.environ | {"TZ": zone, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    elapses = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \d\d:\d\d)", calendar.stdout)
    assert min(elapses) == first


def test_unwritable_systemd_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        SystemdPlan(tmp_path / "file", {"a": ""}, "a").write()


# --- the command --------------------------------------------------------------------------------


def test_install_prints_and_writes_only_with_write(
    company: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    asked = ["--home", str(company.root), "scheduler", "install", "--systemd", "--json"]
    assert run_popug(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["written"], (tmp_path / "config").exists()) == (False, False)
    assert run_popug([*asked, "--write"]) == 0
    written = {file.name: file.read_text() for file in (tmp_path / "config" / "systemd" / "user").iterdir()}
    assert written == printed["files"]
    assert f'--home {company.root} scheduler --once --at 00:05"'.rstrip('"') in "".join(written.values())


def test_either_cron_or_systemd_is_named(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in ([], ["--cron", "--systemd"]):
        assert run_popug(["--home", str(company.root), "scheduler", "install", *chosen]) == 2
    assert run_popug(["--home", str(company.root), "scheduler", "install", "--cron"]) == 0
    assert "crontab -e" in capsys.readouterr().out


# --- a real cron --------------------------------------------------------------------------------


def real_cron() -> None:
    """Skip with a reason if Debian's cron cannot be run in a sandbox."""
    if os.geteuid() != 0:
        pytest.skip("a cron of its own needs root")
    if shutil.which("cron") is None and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qq", "-y", "cron"], capture_output=True, check=False, timeout=120)
    if shutil.which("cron") is None:
        pytest.skip("cron is not installed and could not be")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespace to run a cron in")


@pytest.mark.slow
def test_real_cron_closes_yesterday_with_the_written_line(company: InProcess, tmp_path: Path) -> None:
    real_cron()
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=86400 * 30, scope=Scope.CLOSE_DAY)).token
    file = schedule(str(company.root)).token_file
    token_file = tmp_path / file.removeprefix("~/")
    token_file.parent.mkdir(parents=True)
    token_file.write_text(token + "\n")
    for name in ("tables", "system"):
        (tmp_path / name).mkdir()
    (tmp_path / "crontab").touch()
    install = f"{sys.executable} -m popug_cli --home {company.root} scheduler install --cron --at 00:00 --write"
    corner = f"""
        set -e
        mount --bind {tmp_path}/tables /var/spool/cron/crontabs
        mount --bind {tmp_path}/system /etc/cron.d
        mount --bind {tmp_path}/crontab /etc/crontab
        mount -t tmpfs none /run
        {install} >&2
        crontab -l | sed 's/^[0-9,]* [0-9*]* /* * /; 1i HOME={tmp_path}' | crontab -
        crontab -l >&2
        exec cron -f
    """
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", corner], stderr=subprocess.PIPE, text=True) as cron:
        until = time.monotonic() + FIRES_WITHIN_SECONDS
        while not list(company.root.glob("mail/new/*")) and time.monotonic() < until and cron.poll() is None:
            time.sleep(0.25)
        cron.terminate()
        _, said = cron.communicate()
    closed = company.rows("SELECT business_date, paid_count FROM billing_days")
    yesterday = company.clock.now().date().isoformat()
    assert closed == [{"business_date": yesterday, "paid_count": 1}], said
