"""``cluster backup``, ``doctor DIR`` and ``restore``: five services as they were at one time, and their new life."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.cluster import backup as backups
from popug_cli.cluster.backup import back_up
from popug_cli.cluster.doctor import examine, examine_backup
from popug_cli.cluster.opening import open_services
from popug_cli.cluster.places import Places
from popug_cli.cluster.republish import republish
from popug_cli.cluster.restore import restore, restore_in_place
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import no_progress
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.cluster import ClusterHealth
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks
from popug_cli.storage import cluster_pause
from tests.integration.cluster.linked_company import LinkedCompany


@pytest.fixture
def company(tmp_path: Path) -> Iterator[LinkedCompany]:
    """A company with a closed day and mail, and with events that have not arrived everywhere."""
    company = LinkedCompany(tmp_path)
    company.company.clock.instant = datetime.now(UTC) - timedelta(days=1)
    for number in range(3):
        task = company.act("boss", AddTask(title=f"Task {number}"))
        if number:
            company.act(task.assignee, CompleteTask(number=task.number))
    company.settle()
    company.act("boss", AddTask(title="not relayed yet"))
    yield company
    company.close()


def places_of(directory: Path) -> Places:
    return Places(homes=directory, database="", brokers="", prefix="popug")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_of(tmp_path / "services")


def backed_up(places: Places, directory: Path) -> Any:
    with open_services(places) as services:
        return back_up(services, directory, no_progress)


def close_day(company: LinkedCompany) -> None:
    company.settle()
    company.copies_when_asked = True
    company.act("boss", CloseDay(confirmed=True))
    company.copies_when_asked = False
    company.settle()


def failed(health: ClusterHealth) -> dict[str, str]:
    return {f"{check.service} {check.name}".strip(): check.detail for check in health.checks if not check.ok}


def edit(home: Path, *statements: str) -> None:
    """Run statements on a file past its triggers."""
    with closing(sqlite3.connect(home / "popug.db", isolation_level=None)) as file:
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            file.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            file.execute(statement)
        for _, trigger in triggers:
            file.execute(trigger)


def rows(home: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "popug.db")) as file:
        return file.execute(statement).fetchall()


def do_restore(places: Places, directory: Path, **more: Any) -> Any:
    return restore(places, directory, lambda: None, lambda sentence: None, no_progress, **more)


def test_live_cluster_is_sound(company: LinkedCompany, places: Places) -> None:
    with open_services(places) as services:
        health = examine(services)
    assert failed(health) == {}
    assert health.ok
    assert set(health.heads) == set(SERVICES)
    assert {check.name for check in health.checks if not check.service} == {
        "one_cluster",
        "received_events_exist",
        "received_events_equal",
        "includes_exist",
        "prices_match_billing",
        "payouts_match_mails",
    }


def test_backup_is_sound_and_stays_as_it_is(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    answer = backed_up(places, tmp_path / "backup")
    assert answer.positions["tasks"] == company.head("tasks")
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == sorted(SERVICES)
    before = {path: path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file()}
    assert {path.name for path in before} == {"popug.db"}
    assert failed(examine_backup(tmp_path / "backup", lambda sentence: None)) == {}
    assert {path: path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file()} == before
    assert not [path for path in before if "keys" in path.parts]
    assert not rows(tmp_path / "backup" / "tasks", "SELECT * FROM storage_cluster_pause")


@pytest.mark.parametrize(
    ("service", "statement", "check"),
    [
        ("tasks", "UPDATE bus_log SET envelope = replace(envelope, 'Task 0', 'Task X')", "received_events_equal"),
        ("billing", "DELETE FROM bus_received WHERE origin = 'tasks'", "received_events_equal"),
        ("billing", "UPDATE billing_tasks SET fee_cents = 1000 + (fee_cents + 100) % 1000", "prices_match_billing"),
        ("mail", "UPDATE bus_streams SET last_id = 'other' WHERE origin = 'billing'", "received_events_exist"),
        ("mail", "UPDATE bus_streams SET log_id = 'other' WHERE origin = 'billing'", "one_cluster"),
        ("analytics", """UPDATE bus_streams SET includes = '{"tasks":99999}'""", "includes_exist"),
        ("mail", "DELETE FROM mail_outbox", "payouts_match_mails"),
    ],
)
def test_damaged_backup_found(
    company: LinkedCompany, places: Places, tmp_path: Path, service: str, statement: str, check: str
) -> None:
    if check == "payouts_match_mails":
        close_day(company)
    backed_up(places, tmp_path / "backup")
    edit(tmp_path / "backup" / service, statement)
    assert check in failed(examine_backup(tmp_path / "backup", lambda sentence: None))


@pytest.mark.parametrize("damage", ["missing", "garbage", "swapped", "absent", "live"])
def test_directory_that_is_no_backup_refused(
    company: LinkedCompany, places: Places, tmp_path: Path, damage: str
) -> None:
    directory = tmp_path / "backup"
    backed_up(places, directory)
    if damage == "missing":
        shutil.rmtree(directory / "mail")
    elif damage == "garbage":
        (directory / "mail" / "popug.db").write_bytes(b"no database" * 1000)
    elif damage == "swapped":
        shutil.copy(directory / "tasks" / "popug.db", directory / "mail" / "popug.db")
    elif damage == "live":
        directory = places.homes
    else:
        shutil.rmtree(directory)
    for use in (lambda: examine_backup(directory, print), lambda: do_restore(places_of(tmp_path / "new"), directory)):
        with pytest.raises(PopugError) as refused:
            use()
        assert refused.value.code == ("other_service" if damage == "swapped" else "not_a_backup")
        assert refused.value.hint
    assert not (tmp_path / "new").exists()


def test_existing_directory_is_not_replaced(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(PopugError) as refused:
        backed_up(places, tmp_path / "backup")
    assert (refused.value.code, refused.value.exit_status) == ("file_exists", 6)


def test_pause_stops_replicators_only(company: LinkedCompany) -> None:
    company.relay("tasks")
    runtime = company.services["billing"].runtime
    with runtime.writing(OPERATOR) as context:
        cluster_pause.begin(context.connection, "mine", context.now + timedelta(seconds=30))
    before = company.head("billing")
    company.receive("billing", "tasks")
    assert company.head("billing") == before
    company.act("boss", AddTask(title="commands go on"))
    company.company.clock.advance(seconds=31)  # the pause ends by itself
    company.receive("billing", "tasks")
    assert company.head("billing") > before


def test_second_backup_at_the_same_time_refused(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    with open_services(places) as services:
        with services["analytics"].runtime.writing(OPERATOR) as context:
            cluster_pause.begin(context.connection, "other", context.now + timedelta(seconds=30))
        with pytest.raises(PopugError) as refused:
            back_up(services, tmp_path / "backup", no_progress)
        assert (refused.value.code, refused.value.exit_status) == ("backup_running", 6)
        with services["identity"].runtime.reading(OPERATOR) as context:
            assert cluster_pause.current(context.connection, context.now) is None
    assert not (tmp_path / "backup").exists()


def test_snapshots_that_took_too_long_are_no_backup(
    company: LinkedCompany, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "MAX_CLOCK_DIFFERENCE_SECONDS", backups.PAUSE_SECONDS)
    with pytest.raises(PopugError) as refused:
        backed_up(places, tmp_path / "backup")
    assert (refused.value.code, refused.value.exit_status) == ("pause_ended", 8)
    assert not (tmp_path / "backup").exists()
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_restored_cluster_begins_a_new_life(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    close_day(company)
    backed_up(places, tmp_path / "backup")
    after = company.act("boss", AddTask(title="lost"))
    company.settle()
    old_ids = {name: rows(places.homes / name, "SELECT log_id FROM bus_relay")[0][0] for name in SERVICES}
    new = places_of(tmp_path / "new")
    answer = do_restore(new, tmp_path / "backup")
    assert answer.held_mails == len(rows(new.homes / "mail", "SELECT * FROM mail_outbox WHERE held = 1"))
    with open_services(new) as services:
        assert failed(examine(services)) == {}
        titles = [task.title for task in services["tasks"].perform_as(company.people["boss"], ListTasks()).tasks]
    assert "lost" not in titles
    ids = {name: rows(new.homes / name, "SELECT log_id FROM bus_relay")[0][0] for name in SERVICES}
    assert not set(ids.values()) & set(old_ids.values())
    for name in SERVICES:
        for origin, log_id, offset in rows(new.homes / name, "SELECT origin, log_id, next_offset FROM bus_streams"):
            assert (log_id, offset) == (ids[origin], 0)
        valid = rows(new.homes / name, "SELECT kid FROM identity_keys WHERE public_key <> ''")
        assert len(valid) == (1 if name == "identity" else 0)
    company.close()
    company.homes = {name: new.home_of(name) for name in SERVICES}
    company.services = {name: company.open(name) for name in SERVICES}
    task = company.act("boss", AddTask(title="new life"))
    assert task.number == after.number
    company.settle()  # the topics have the records of the old life, which are ignored
    with open_services(new) as services:
        assert failed(examine(services)) == {}
    assert company.rows("billing", "SELECT * FROM billing_tasks WHERE title = 'lost'") == []
    assert company.rows("billing", "SELECT * FROM billing_tasks WHERE title = 'new life'")
    assert company.rows("tasks", "SELECT kid FROM identity_keys WHERE public_key <> ''")


def test_restore_into_a_cluster_refused(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    backed_up(places, tmp_path / "backup")
    with pytest.raises(PopugError) as refused:
        do_restore(places, tmp_path / "backup")
    assert (refused.value.code, refused.value.exit_status) == ("already_initialised", 6)


class Killed(BaseException):
    """The end of the process, which leaves no time to clean up."""


def test_restore_after_a_kill_starts_again(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    backed_up(places, tmp_path / "backup")
    new = places_of(tmp_path / "new")

    def kill(name: str) -> None:
        if name == "filled billing":
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("popug_cli.cluster.restore.empty_places", lambda targets, cluster_id: None)
        with pytest.raises(Killed):
            do_restore(new, tmp_path / "backup", after_step=kill)
    with pytest.raises(PopugError) as refused, open_services(new):
        pass
    assert refused.value.code == "loading"
    do_restore(new, tmp_path / "backup")
    with open_services(new) as services:
        assert failed(examine(services)) == {}


@pytest.mark.parametrize("killed_at", ["", "restoring", "begun tasks", "begun mail"])
def test_recovered_databases_begin_a_new_life(
    company: LinkedCompany, places: Places, tmp_path: Path, killed_at: str
) -> None:
    company.act("boss", AddTask(title="before"))
    company.settle()
    for name in SERVICES:
        shutil.copytree(places.homes / name, tmp_path / "recovered" / name)
    company.act("boss", AddTask(title="lost"))
    company.settle()
    new = places_of(tmp_path / "recovered")

    def kill(name: str) -> None:
        if name == killed_at:
            raise Killed

    if killed_at:
        with pytest.raises(Killed):
            restore_in_place(new, after_step=kill)
        with pytest.raises(PopugError) as refused, open_services(new):
            pass
        assert refused.value.code == "loading"
    restore_in_place(new)
    company.close()
    company.homes = {name: new.home_of(name) for name in SERVICES}
    company.services = {name: company.open(name) for name in SERVICES}
    company.act("boss", AddTask(title="new life"))
    company.settle()
    with open_services(new) as services:
        assert failed(examine(services)) == {}
    assert company.rows("billing", "SELECT * FROM billing_tasks WHERE title = 'lost'") == []


def test_services_of_different_times_are_not_restored(company: LinkedCompany, places: Places, tmp_path: Path) -> None:
    shutil.copytree(places.homes / "tasks", tmp_path / "tasks")
    company.act("boss", AddTask(title="billing knows it"))
    company.settle()
    company.close()
    shutil.rmtree(places.homes / "tasks")
    shutil.move(tmp_path / "tasks", places.homes / "tasks")
    with pytest.raises(PopugError) as refused:
        restore_in_place(places)
    assert (refused.value.code, refused.value.exit_status) == ("received_unknown", 6)
    with open_services(places) as services:
        assert "received_events_exist" in failed(examine(services))


def test_republish_sends_again(company: LinkedCompany, places: Places) -> None:
    company.settle()
    with open_services(places) as services:
        answer = republish(services["tasks"], "tasks", 1)
    assert answer.events > 0
    before = company.head("billing")
    company.settle()
    assert company.head("billing") >= before
    with open_services(places) as services:
        assert failed(examine(services)) == {}
        with pytest.raises(PopugError) as refused:
            republish(services["tasks"], "tasks", 0)
    assert (refused.value.code, refused.value.exit_status) == ("not_sent_yet", 2)


def test_places_without_a_cluster_named(tmp_path: Path) -> None:
    with pytest.raises(PopugError) as refused, open_services(places_of(tmp_path / "none")):
        pass
    assert (refused.value.code, refused.value.exit_status) == ("not_initialised", 3)
    assert "--homes" in refused.value.hint
    assert not (tmp_path / "none").exists()
