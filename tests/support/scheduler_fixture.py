"""A company in which days pass."""

from pathlib import Path

import pytest

from popug_cli.cli.install.schedule_units import CloseSchedule
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.scheduler import RunDue, ScheduledRunResult
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.support.billing_company import migrated
from tests.support.company import InProcess, SetClock

FIVE_PAST = 5
BERLIN = "Europe/Berlin"


@pytest.fixture(autouse=True)
def weak_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a weak hash, since tests of time need no strong one."""
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_TIME_COST", "1")
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_MEMORY_KIB", "8192")


def create_company(root: Path, zone: str = BERLIN, clock: SetClock | None = None) -> InProcess:
    Home(root).make()
    Home(root).database.write_bytes(migrated())
    company = InProcess(root, zone, clock or SetClock())
    company.hire("kesha")
    return company


def earn(company: InProcess) -> None:
    task = company.act("kesha", AddTask(title="Feed the cage"))
    company.act("kesha", CompleteTask(number=task.number))


def run_due(company: InProcess, at_minute: int = FIVE_PAST, *, confirmed: bool = False) -> ScheduledRunResult:
    return company.backend.perform(RunDue(at_minute=at_minute, confirmed=confirmed), actor=SCHEDULER)


def closed_dates(run: ScheduledRunResult) -> list[str]:
    return [str(day.business_date) for day in run.days]


def schedule(home: str = "/srv/popug", machine_zone: str = BERLIN, at_minute: int = FIVE_PAST) -> CloseSchedule:
    """Return the schedule of a company in Berlin."""
    return CloseSchedule(Home(Path(home)), at_minute, BERLIN, machine_zone)
