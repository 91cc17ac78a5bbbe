"""``cluster init`` with five databases of a PostgreSQL server."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.cluster.backup import back_up
from popug_cli.cluster.doctor import examine
from popug_cli.cluster.initialise import Options, initialise
from popug_cli.cluster.opening import open_services
from popug_cli.cluster.places import Places, with_database
from popug_cli.cluster.restore import restore, restore_in_place
from popug_cli.identity import published_keys
from popug_cli.identity.keys import active_key_id
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import no_progress
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, ListTasks
from popug_cli.storage import cluster_state
from tests.support.company import InProcess
from tests.support.postgres.server import PostgresServer

CREATOR = "cluster_creator"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[InProcess]:
    company = InProcess(tmp_path / "company")
    company.hire("ann")
    company.act("boss", AddTask(title="Feed the cage"))
    with closing(company.backend):
        yield company


@pytest.fixture
def places(tmp_path: Path, postgres: PostgresServer) -> Iterator[Places]:
    """Five databases that do not exist yet, of a role that may create them."""
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", CREATOR):
        postgres.create_role(CREATOR, "LOGIN CREATEDB")
    prefix = f"t{secrets.token_hex(4)}"
    server = with_database(postgres.url("postgres", CREATOR), "").rstrip("/")
    yield Places(homes=tmp_path / "services", database=server, brokers="", prefix=prefix)
    for service in SERVICES:
        postgres.drop_database(f"{prefix}_{service}")


class Killed(BaseException):
    """The end of the process, which leaves no time to clean up."""


def init(company: InProcess, places: Places, **more: Any) -> Any:
    backend = LocalBackend(company.backend.home, randomness=company.chance, from_file=True)
    with closing(backend):
        return initialise(backend, places, Options(), lambda: None, **more)


def opened(places: Places, service: str) -> "closing[LocalBackend]":
    return closing(LocalBackend(places.home_of(service), database_url=places.database_of(service)))


def state_of(postgres: PostgresServer, places: Places, service: str) -> Any:
    statement = "SELECT state, cluster_id FROM storage_cluster_state"
    rows = postgres.execute(statement, database=f"{places.prefix}_{service}")
    return rows[0] if rows else None


def test_home_becomes_five_databases(company: InProcess, places: Places, postgres: PostgresServer) -> None:
    (company.backend.home.config).write_text('[mail]\nfrom = "popug@example.com"\n')
    answer = init(company, places)
    assert [place.topic for place in answer.services] == [f"{places.prefix}.{service}" for service in SERVICES]
    for service in SERVICES:
        assert state_of(postgres, places, service) == ("active", answer.cluster)
        with opened(places, service) as backend:
            health = backend.perform(CheckHealth())
            assert health.ok, [check for check in health.checks if not check.ok]
            assert (backend.runtime.service, health.head) == (service, answer.head)
            if service == "tasks":
                assert backend.perform_as(company.people["boss"], ListTasks()).total == 1
        assert "popug@example.com" in places.home_of(service).config.read_text()
    assert not postgres.execute("SELECT 1 FROM identity_users", database=f"{places.prefix}_tasks")


@pytest.mark.parametrize("last", ["prepared", "filled tasks", "filled mail", "sealed", "activated"])
def test_init_on_a_server_goes_on_after_a_kill(company: InProcess, places: Places, last: str) -> None:
    def kill(name: str) -> None:
        if name == last:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("popug_cli.cluster.initialise.empty_places", lambda targets, cluster_id: None)
        with pytest.raises(Killed):
            init(company, places, after_step=kill)
    if last == "filled tasks":
        with opened(places, "tasks") as backend, pytest.raises(PopugError) as refused:
            backend.perform_as(OPERATOR, ListTasks())
        assert (refused.value.code, refused.value.exit_status) == ("loading", 8)
        company.act("boss", AddTask(title="The home works"))
    answer = init(company, places)
    assert answer.resumed == (last in ("sealed", "activated"))
    with opened(places, "tasks") as backend:
        assert backend.perform_as(company.people["boss"], ListTasks()).total == (2 if last == "filled tasks" else 1)


def test_failure_empties_the_databases(company: InProcess, places: Places, postgres: PostgresServer) -> None:
    def fail(name: str) -> None:
        if name == "filled billing":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        init(company, places, after_step=fail)
    assert [state_of(postgres, places, service) for service in SERVICES] == [None] * 5
    company.act("boss", AddTask(title="goes on"))
    assert not init(company, places).resumed


def test_role_that_creates_no_databases_named(company: InProcess, places: Places, postgres: PostgresServer) -> None:
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'cluster_poor'"):
        postgres.create_role("cluster_poor")
    poor = places._replace(database=with_database(postgres.url("postgres", "cluster_poor"), "").rstrip("/"))
    with pytest.raises(PopugError) as refused:
        init(company, poor)
    assert (refused.value.code, refused.value.exit_status) == ("databases_missing", 8)
    names = [f"{places.prefix}_{service}" for service in SERVICES]
    assert refused.value.details["missing"] == names
    assert all(name in refused.value.message and name in refused.value.hint for name in names)
    assert company.act("boss", ListTasks()).total == 1
    for name in names:
        postgres.execute(f"CREATE DATABASE {name} OWNER cluster_poor TEMPLATE template0 ENCODING 'UTF8'")
    init(company, poor)
    with opened(poor, "tasks") as backend:
        assert backend.perform_as(company.people["boss"], ListTasks()).total == 1


def test_database_of_another_program_refused(company: InProcess, places: Places, postgres: PostgresServer) -> None:
    postgres.execute(f"CREATE DATABASE {places.prefix}_mail OWNER {CREATOR}")
    postgres.execute("CREATE TABLE notes (text text)", database=f"{places.prefix}_mail", role=CREATOR)
    with pytest.raises(PopugError) as refused:
        init(company, places)
    assert (refused.value.code, refused.value.exit_status) == ("corrupt_database", 7)
    created = postgres.execute("SELECT count(*) FROM pg_database WHERE datname LIKE %s", f"{places.prefix}%")
    assert created == [(1,)]


def test_second_company_refused(company: InProcess, places: Places, tmp_path: Path) -> None:
    init(company, places)
    other = InProcess(tmp_path / "other")
    other.hire("bob")
    with closing(other.backend), pytest.raises(PopugError) as refused:
        init(other, places._replace(homes=tmp_path / "more"))
    assert (refused.value.code, refused.value.exit_status) == ("already_initialised", 6)


def test_unreachable_server_changes_nothing(company: InProcess, places: Places) -> None:
    with pytest.raises(PopugError) as refused:
        init(company, places._replace(database="postgresql://popug@127.0.0.1:1"))
    assert (refused.value.code, refused.value.exit_status) == ("database_unavailable", 8)
    assert company.act("boss", ListTasks()).total == 1


def test_databases_are_backed_up_and_restored(
    company: InProcess, places: Places, postgres: PostgresServer, tmp_path: Path
) -> None:
    created = init(company, places)
    with open_services(places) as services:
        assert [check for check in examine(services).checks if not check.ok] == []
        back_up(services, tmp_path / "backup", no_progress)
    new = places._replace(prefix=f"{places.prefix}r", homes=tmp_path / "restored")
    try:
        answer = restore(new, tmp_path / "backup", lambda: None, lambda sentence: None, no_progress)
        assert answer.cluster != created.cluster
        for service in SERVICES:
            assert state_of(postgres, new, service) == ("active", answer.cluster)
        with open_services(new) as services:
            assert [check for check in examine(services).checks if not check.ok] == []
            assert services["tasks"].perform_as(company.people["boss"], ListTasks()).total == 1
        again = restore_in_place(new)
        assert state_of(postgres, new, "mail") == ("active", again.cluster)
        with open_services(new) as services:
            assert [check for check in examine(services).checks if not check.ok] == []
    finally:
        for service in SERVICES:
            postgres.drop_database(f"{new.prefix}_{service}")


def test_recovered_database_is_refused(
    company: InProcess, places: Places, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(company, places)
    with opened(places, "tasks") as backend, backend.runtime.reading(OPERATOR) as context:
        cluster_state.require_unrecovered(context.connection, "tasks")
    postgres.execute("UPDATE storage_cluster_state SET timeline = timeline + 1", database=f"{places.prefix}_tasks")
    with opened(places, "tasks") as backend, backend.runtime.reading(OPERATOR) as context:
        cluster_state.require_unrecovered(context.connection, "tasks")  # as after a promotion
        monkeypatch.setattr(type(context.connection), "has_recovery_target", lambda connection: True)
        with pytest.raises(PopugError) as refused:
            cluster_state.require_unrecovered(context.connection, "tasks")
    assert (refused.value.code, refused.value.exit_status) == ("recovered_database", 6)


def test_running_service_is_not_restored(company: InProcess, places: Places) -> None:
    init(company, places)
    with opened(places, "billing") as backend:
        lock = backend.runtime.database.leader_lock()
        assert lock.try_acquire()
        try:
            with pytest.raises(PopugError) as refused:
                restore_in_place(places)
        finally:
            lock.release()
    assert (refused.value.code, refused.value.exit_status) == ("service_running", 8)
    with open_services(places):
        pass


def test_identity_makes_a_new_key_after_a_restore(company: InProcess, places: Places) -> None:
    init(company, places)
    home = places.home_of("identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POPUG_DATABASE", places.database_of("identity"))
        with closing(LocalBackend(home)) as backend:
            assert backend.runtime.service == "identity"
        old = active_key_id(home)
        restore_in_place(places)
        with closing(LocalBackend(home)) as backend, backend.runtime.reading(OPERATOR) as context:
            assert published_keys.is_void(context, old)
            assert active_key_id(home) not in ("", old)
            assert [key["kid"] for key in published_keys.key_set(context)] == [active_key_id(home)]
