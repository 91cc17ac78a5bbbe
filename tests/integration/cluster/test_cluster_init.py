"""``cluster init``: a company's home becomes five services, and is sealed."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.cluster.initialise import Options, initialise, require_file
from popug_cli.cluster.places import Places
from popug_cli.daemon.scheduler import ScheduledRun
from popug_cli.kernel import serve_lock
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.messages.base import Message
from popug_cli.messages.company import BackUp, CheckHealth, Restore, ShowPermissions, ShowSettings
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.scheduler import RunDue
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, ListTasks
from tests.support.company import InProcess, SeededChance

GATEWAY = "https://popug.example.com"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[InProcess]:
    company = InProcess(tmp_path / "company")
    company.hire("ann")
    company.act("boss", AddTask(title="Feed the cage"))
    with closing(company.backend):
        yield company


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(homes=tmp_path / "services", database="", brokers="", prefix="popug")


def init(company: InProcess, places: Places, options: Options = Options(), **more: Any) -> Any:  # noqa: B008
    backend = LocalBackend(company.backend.home, clock=company.clock, randomness=company.chance, from_file=True)
    with closing(backend):
        return initialise(backend, places, options, more.pop("prepare_topics", lambda: None), **more)


def state_of(home: Home) -> tuple[Any, ...] | None:
    with closing(sqlite3.connect(home.database)) as file:
        row: tuple[Any, ...] | None = file.execute(
            "SELECT state, cluster_id, gateway FROM storage_cluster_state"
        ).fetchone()
        return row


def rows(home: Home, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home.database)) as file:
        return file.execute(statement).fetchall()


class Killed(BaseException):
    """The end of the process, which leaves no time to clean up."""


def test_home_becomes_five_services(company: InProcess, places: Places) -> None:
    answer = init(company, places, Options(gateway=GATEWAY))
    assert [place.service for place in answer.services] == list(SERVICES)
    assert not answer.resumed
    logs = [rows(places.home_of(service), "SELECT sequence, envelope FROM bus_log") for service in SERVICES]
    assert logs == [logs[0]] * 5
    assert len(logs[0]) == answer.events
    for service in SERVICES:
        home = places.home_of(service)
        assert state_of(home) == ("active", answer.cluster, GATEWAY)
        with closing(LocalBackend(home, clock=company.clock, from_file=True)) as backend:
            assert backend.runtime.service == service
            assert backend.perform(CheckHealth()).ok
            if service == "tasks":
                assert backend.perform_as(company.people["boss"], ListTasks()).total == 1
    assert sorted(path.name for path in places.homes.iterdir()) == sorted(SERVICES)


def test_services_have_the_rows_of_their_module_only(company: InProcess, places: Places) -> None:
    init(company, places)
    for service in SERVICES:
        for table, owner in (("identity_users", "identity"), ("tasks_tasks", "tasks"), ("billing_entries", "billing")):
            count = rows(places.home_of(service), f"SELECT count(*) FROM {table}")[0][0]
            assert (count > 0) == (service == owner), (service, table)


@pytest.mark.parametrize(
    "message", [ListTasks(), AddTask(title="x"), BackUp(), CheckHealth(), ShowSettings(), ShowPermissions()]
)
def test_sealed_home_refuses_everything(company: InProcess, places: Places, message: Message[Any]) -> None:
    init(company, places, Options(gateway=GATEWAY))
    home = company.backend.home
    with closing(LocalBackend(home, clock=company.clock)) as backend, pytest.raises(PopugError) as refused:
        backend.perform_as(OPERATOR, message)
    assert (refused.value.code, refused.value.exit_status) == ("moved", 8)
    assert GATEWAY in refused.value.message
    assert refused.value.details["gateway"] == GATEWAY


def test_sealed_home_is_not_restored(company: InProcess, places: Places, tmp_path: Path) -> None:
    file = company.backend.perform(BackUp(path=str(tmp_path / "backup.zip"))).path
    init(company, places)
    with closing(LocalBackend(company.backend.home)) as backend, pytest.raises(PopugError) as refused:
        backend.perform(Restore(path=file))
    assert refused.value.code == "moved"


def test_open_process_cannot_write_after_the_seal(company: InProcess, places: Places) -> None:
    company.act("boss", ListTasks())  # this process has the home open
    init(company, places)
    with pytest.raises(PopugError) as refused:
        company.act("boss", AddTask(title="lost"))
    assert refused.value.code == "moved"


STEPS = ["prepared", *(f"{act} {name}" for act in ("staged", "filled") for name in SERVICES), "sealed", "activated"]


@pytest.mark.parametrize("last", STEPS)
def test_init_after_a_kill_goes_on(company: InProcess, places: Places, last: str, monkeypatch: Any) -> None:
    def kill(name: str) -> None:
        if name == last:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("popug_cli.cluster.initialise.empty_places", lambda targets, cluster_id: None)
        patch.setattr("popug_cli.storage.temporary_home._remove_unless_in_swap", lambda folder: False)
        with pytest.raises(Killed):
            init(company, places, after_step=kill)
    filled = [name for name in SERVICES if places.home_of(name).database.exists()]
    states = {row[0] for row in map(state_of, map(places.home_of, filled)) if row}
    assert states <= ({"active"} if last == "activated" else {"loading"})
    for service in filled if last != "activated" else ():
        with closing(LocalBackend(places.home_of(service))) as backend, pytest.raises(PopugError) as refused:
            backend.perform_as(OPERATOR, ListTasks())
        assert (refused.value.code, refused.value.exit_status) == ("loading", 8)
    if last not in ("sealed", "activated"):
        company.act("boss", AddTask(title="The home works"))
    answer = init(company, places)
    assert answer.resumed == (last in ("sealed", "activated"))
    assert {state_of(places.home_of(name)) for name in SERVICES} == {("active", answer.cluster, "")}
    assert sorted(path.name for path in places.homes.iterdir()) == sorted(SERVICES)
    titles = rows(places.home_of("tasks"), "SELECT title FROM tasks_tasks ORDER BY number")
    assert titles == [("Feed the cage",)] + ([] if answer.resumed else [("The home works",)])


def test_failure_leaves_home_and_places_as_they_were(company: InProcess, places: Places) -> None:
    def fail(name: str) -> None:
        if name == "filled billing":
            raise OSError(28, "No space left on device", str(places.homes))

    with pytest.raises(PopugError) as failed:
        init(company, places, after_step=fail)
    assert failed.value.code == "disk_full"
    assert list(places.homes.iterdir()) == []
    assert state_of(company.backend.home) is None
    company.act("boss", AddTask(title="goes on"))


def test_topics_come_before_anything_else(company: InProcess, places: Places) -> None:
    def fail() -> None:
        raise PopugError("brokers_unavailable", "No broker answers.")

    with pytest.raises(PopugError, match="No broker answers"):
        init(company, places, prepare_topics=fail)
    assert not places.homes.exists()
    assert state_of(company.backend.home) is None


@pytest.mark.parametrize("content", ["file", "home"])
def test_place_that_has_something_refused(company: InProcess, places: Places, content: str, tmp_path: Path) -> None:
    other = places.home_of("mail")
    if content == "file":
        other.root.mkdir(parents=True)
        (other.root / "notes.txt").write_text("mine")
    else:
        InProcess(other.root).backend.close()
    with pytest.raises(PopugError) as refused:
        init(company, places)
    assert (refused.value.code, refused.value.exit_status) == ("already_initialised", 6)
    assert [path.name for path in places.homes.iterdir()] == ["mail"]
    assert state_of(company.backend.home) is None


def test_attempt_for_another_company_is_left_alone(company: InProcess, places: Places, tmp_path: Path) -> None:
    other = InProcess(tmp_path / "other", chance=SeededChance(2))
    other.hire("bob")

    def stop(name: str) -> None:
        if name == "filled tasks":
            raise Killed

    with closing(other.backend), pytest.MonkeyPatch.context() as patch:
        patch.setattr("popug_cli.cluster.initialise.empty_places", lambda targets, cluster_id: None)
        with pytest.raises(Killed):
            init(other, places, after_step=stop)
    with pytest.raises(PopugError) as refused:
        init(company, places)
    assert refused.value.code == "already_initialised"


def test_sealed_home_has_one_cluster(company: InProcess, places: Places, tmp_path: Path) -> None:
    init(company, places)
    with pytest.raises(PopugError) as refused:
        init(company, places._replace(homes=tmp_path / "more"))
    assert refused.value.code == "moved"
    assert not (tmp_path / "more").exists()


def test_waiting_hooks_need_yes(company: InProcess, places: Places) -> None:
    hook = company.backend.home.hooks / "any"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o700)
    company.clock.advance(days=3650)
    company.act("boss", AddTask(title="Wash the cage"))
    with pytest.raises(PopugError) as refused:
        init(company, places)
    assert (refused.value.code, refused.value.exit_status) == ("hooks_pending", 6)
    assert list(places.homes.iterdir()) == []
    init(company, places, Options(abandon_hooks=True))
    assert rows(places.home_of("tasks"), "SELECT * FROM bus_hooks") == []


def test_served_home_refused(company: InProcess, places: Places) -> None:
    with serve_lock.open_lock_file(company.backend.home) as descriptor:
        assert serve_lock.try_lock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(PopugError) as refused:
            init(company, places)
    assert (refused.value.code, refused.value.exit_status) == ("server_unavailable", 8)
    assert state_of(company.backend.home) is None
    assert not places.homes.exists()


def test_missing_and_newer_homes_refused(company: InProcess, places: Places, tmp_path: Path) -> None:
    with pytest.raises(PopugError) as refused:
        initialise(LocalBackend(Home(tmp_path / "none"), from_file=True), places, Options(), lambda: None)
    assert (refused.value.code, refused.value.exit_status) == ("not_initialised", 3)
    company.backend.close()
    with closing(sqlite3.connect(company.backend.home.database, isolation_level=None)) as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(PopugError) as refused:
        init(company, places)
    assert (refused.value.code, refused.value.exit_status) == ("newer_database", 7)
    assert not places.homes.exists()


def test_home_that_names_a_server_refused(company: InProcess) -> None:
    company.backend.home.config.write_text('[database]\nurl = "postgresql://popug@db1/popug"\n')
    with pytest.raises(PopugError) as refused:
        require_file(company.backend.home)
    assert (refused.value.code, refused.value.exit_status) == ("usage", 2)
    assert "popug database copy --from" in refused.value.hint


def test_sealed_home_learns_the_gateway_later(company: InProcess, places: Places) -> None:
    created = init(company, places)
    again = init(company, places, Options(gateway=GATEWAY))
    assert (again.resumed, again.cluster, again.head) == (True, created.cluster, created.head)
    assert state_of(company.backend.home) == ("moved", created.cluster, GATEWAY)


def test_running_scheduler_of_a_sealed_home_ends(company: InProcess, places: Places) -> None:
    def open_backend(progress: Progress) -> LocalBackend:
        return LocalBackend(company.backend.home, clock=company.clock, progress=progress)

    shown: list[Any] = []
    scheduler = ScheduledRun(open_backend, RunDue(at_minute=5), shown.append)
    scheduler.run(always_report=True)
    init(company, places)
    with pytest.raises(PopugError) as refused:
        scheduler.run(always_report=False)
    assert (refused.value.code, len(shown)) == ("moved", 1)
