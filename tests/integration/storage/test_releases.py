"""A home of every earlier release is migrated after a backup; its content is unchanged and it accepts commands."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.identity.keys import create_first_key
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.bus import ReplayEvents
from popug_cli.messages.company import CheckHealth, ExplainBalance, VerifyLedger
from popug_cli.messages.tasks import AddTask, ShuffleTasks
from popug_cli.storage.migrate import NEWEST, version_of
from tests.generate.releases import LAST, answers, boss_of, kept_releases, recorded_answers, unpack, without_news
from tests.support.company import SeededChance, SetClock

DURING_THE_LAST_DAY = SetClock().instant.replace(day=4, hour=15)


@pytest.fixture(params=kept_releases())
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(release: str, root: Path) -> LocalBackend:
    home = Home(root)
    unpack(release, home)
    with ExitStack() as on_rollback:
        create_first_key(home, SeededChance(5), on_rollback)
    assert version_of(home.database) == release
    return LocalBackend(home, clock=SetClock(DURING_THE_LAST_DAY), randomness=SeededChance(3))


def test_first_release_is_kept() -> None:
    assert kept_releases()[0] == "0006"


def test_home_of_a_release_is_migrated_and_reads_as_before(release: str, tmp_path: Path) -> None:
    backend = opened(release, tmp_path / "home")
    then = recorded_answers(release)
    assert without_news(answers(backend, boss_of(backend)), then) == then
    assert version_of(backend.home.database) == NEWEST
    backups = list(backend.home.backups.glob(f"before-migration-from-{release}-*.db"))
    assert [version_of(backup) for backup in backups] == ([release] if release < NEWEST else [])
    health = backend.perform(CheckHealth())
    assert [check for check in health.checks if not check.ok] == []


def test_migrated_home_accepts_commands(release: str, tmp_path: Path) -> None:
    backend = opened(release, tmp_path / "home")
    boss, head = boss_of(backend), recorded_answers(release)["head"]
    task = backend.perform_as(boss, AddTask(title="After the migration"))
    assert backend.perform_as(boss, ShuffleTasks()).task_count > 1
    balance = backend.perform_as(boss, GetBalance(username=task.assignee)).balance_cents
    assert backend.perform_as(boss, ExplainBalance(username=task.assignee)).figure_cents == balance
    backend.runtime.clock.advance(days=1)  # type: ignore[attr-defined]
    assert backend.perform_as(boss, CloseDay(send_mail=False)).days[-1].business_date == LAST
    assert backend.perform_as(boss, ReplayEvents(verify=True)).differences == []
    proof = backend.perform(VerifyLedger(head=head))
    assert (proof.ok, proof.first_wrong) == (True, None)
