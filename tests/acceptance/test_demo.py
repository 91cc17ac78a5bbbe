"""The demo: a day of a sample company in its own home."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.installed_company import PROGRAM, Company, snapshot

LIMIT_SECONDS = 120

Played = tuple[subprocess.CompletedProcess[str], bool, Path]


def play(company: Company, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Play the demo with its temporary files in a given folder, on a wide screen."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = company.environment() | {"TMPDIR": str(temporary), "COLUMNS": "300"}
    return subprocess.run(
        [*PROGRAM, "demo", *args], env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=LIMIT_SECONDS, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def played(staff: Company, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Run the demo next to a real company. Return the result, whether the company is unchanged, and the folder."""
    folder = tmp_path_factory.mktemp("demo")
    before = snapshot(staff.folder)
    done = play(staff, folder)
    return done, snapshot(staff.folder) == before, folder


def homes_named_in(text: str) -> list[Path]:
    """Return the homes among the paths that a text names."""
    paths = {Path(found.rstrip(".,;:")) for found in re.findall(r"/[^\s'\"│|`()]+", text)}
    return [path for path in paths if (path / "popug.db").is_file()]


def test_demo_runs_to_its_end(played: Played) -> None:
    done, _, _ = played
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr


def test_demo_names_a_home_of_its_own(staff: Company, played: Played) -> None:
    done, _, folder = played
    (home,) = homes_named_in(done.stdout)
    assert home != staff.home
    assert home.is_relative_to(folder / "tmp")


def test_demo_leaves_the_real_home_and_session_unchanged(
    played: Played,
) -> None:
    _, untouched, _ = played
    assert untouched


def test_demo_ends_with_mail_and_a_healthy_company(staff: Company, played: Played) -> None:
    (home,) = homes_named_in(played[0].stdout)
    assert list(home.glob("mail/new/*"))
    assert staff.run("doctor", "--home", str(home)).ok()["ok"] is True


def test_demo_shows_the_commands_that_make_its_screens(
    played: Played,
) -> None:
    shown = played[0].stdout
    for command in ("popug task add", "popug tasks shuffle", "popug task complete", "popug close-day"):
        assert command in shown, command


def test_demo_is_refused_in_a_real_home(company: Company, folder: Path) -> None:
    before = snapshot(company.home)
    done = play(company, folder, "--home", str(company.home))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert snapshot(company.home) == before
