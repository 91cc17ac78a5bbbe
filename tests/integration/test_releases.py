"""A home of every earlier release is migrated after a backup, and everything in it is as it was and goes on."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from popug_cli.app import Local
from popug_cli.identity.keys import make_first_key
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.bus import ReplayEvents
from popug_cli.messages.company import CheckHealth, ExplainBalance, VerifyLedger
from popug_cli.messages.tasks import AddTask, ShuffleTasks
from popug_cli.storage.migrate import NEWEST, version_of
from tests.integration.releases import LAST, answers, boss_of, kept, told_by, unpack, without_news
from tests.integration.support import SeededChance, SetClock

DURING_THE_LAST_DAY = SetClock().instant.replace(day=4, hour=15)


@pytest.fixture(params=kept())
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(release: str, root: Path) -> Local:
    home = Home(root)
    unpack(release, home)
    with ExitStack() as beside:
        make_first_key(home, SeededChance(5), beside)
    assert version_of(home.database) == release
    return Local(home, clock=SetClock(DURING_THE_LAST_DAY), chance=SeededChance(3))


def test_the_first_release_is_kept() -> None:
    assert kept()[0] == "0006"


def test_what_a_release_left_is_migrated_and_reads_as_before(release: str, tmp_path: Path) -> None:
    place = opened(release, tmp_path / "home")
    then = told_by(release)
    assert without_news(answers(place, boss_of(place)), then) == then
    assert version_of(place.home.database) == NEWEST
    backups = list(place.home.backups.glob(f"before-migration-from-{release}-*.db"))
    assert [version_of(backup) for backup in backups] == ([release] if release < NEWEST else [])
    health = place.perform(CheckHealth())
    assert [check for check in health.checks if not check.ok] == []


def test_a_migrated_home_goes_on(release: str, tmp_path: Path) -> None:
    place = opened(release, tmp_path / "home")
    boss, head = boss_of(place), told_by(release)["head"]
    task = place.perform_as(boss, AddTask(title="After the migration"))
    assert place.perform_as(boss, ShuffleTasks()).task_count > 1
    balance = place.perform_as(boss, GetBalance(username=task.assignee)).balance_cents
    assert place.perform_as(boss, ExplainBalance(username=task.assignee)).figure_cents == balance
    place.runtime.clock.advance(days=1)  # type: ignore[attr-defined]
    assert place.perform_as(boss, CloseDay(send_mail=False)).days[-1].business_date == LAST
    assert place.perform_as(boss, ReplayEvents(verify=True)).differences == []
    proof = place.perform(VerifyLedger(head=head))
    assert (proof.ok, proof.first_wrong) == (True, None)
