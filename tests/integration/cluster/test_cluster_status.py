"""The status of a cluster whose parts are down is complete about what it can read, and names the rest."""

from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.cluster.places import Places
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.cluster.status import cluster_status
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import load_settings
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from tests.support.company import InProcess

UNREACHABLE = "127.0.0.1:1"


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Home]:
    company = InProcess(tmp_path / "company")
    with closing(company.backend):
        return create_service_homes(company.backend, tmp_path / "s")


def places_at(homes: Path) -> Places:
    return Places(homes, database="", brokers=UNREACHABLE, prefix="popug")


def test_status_reads_the_databases_while_all_else_is_down(homes: dict[str, Home], tmp_path: Path) -> None:
    report = cluster_status(load_settings(tmp_path / "config.toml", {}), places_at(tmp_path / "s"))
    assert [service.service for service in report.services] == list(SERVICES)
    assert all(service.status for service in report.services)
    assert (report.is_intact, report.is_complete, report.brokers) == (True, False, [])
    assert [f"No server of {name} answers." for name in homes] == report.problems[: len(homes)]
    assert UNREACHABLE in report.problems[-1]


def test_missing_database_is_a_problem_of_its_service(homes: dict[str, Home], tmp_path: Path) -> None:
    homes["mail"].database.unlink()
    report = cluster_status(load_settings(tmp_path / "config.toml", {}), places_at(tmp_path / "s"))
    assert [service.service for service in report.services if service.status is None] == ["mail"]
    assert any(problem.startswith("mail: There is no company") for problem in report.problems)


def test_lasting_gap_names_the_command_that_fills_it(homes: dict[str, Home], tmp_path: Path) -> None:
    with closing(LocalBackend(homes["billing"])) as backend, backend.runtime.writing(OPERATOR) as context:
        context.connection.execute(
            "UPDATE bus_streams SET gap_since = '2026-01-01T00:00:00.000000Z', last = 7, last_id = 'seventh'"
            " WHERE origin = 'tasks'"
        )
    report = cluster_status(load_settings(tmp_path / "config.toml", {}), places_at(tmp_path / "s"))
    assert not report.is_intact
    assert any("Run `popug cluster republish tasks --from 8`." in problem for problem in report.problems)
