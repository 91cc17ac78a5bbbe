"""Companies on the PostgreSQL server of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed_company import Company
from tests.support.postgres.programs import require_postgres
from tests.support.postgres.replicated import ReplicatedCompany
from tests.support.postgres.server import PostgresServer

pytest.register_assert_rewrite("tests.support.installed_company")


@pytest.fixture(scope="session")
def on_postgres(postgres: PostgresServer) -> type[Company]:
    """The class of companies that have a database on the server."""
    return type("PostgresCompany", (Company,), {"database_server": postgres, "is_served": False})


@pytest.fixture(scope="session")
def template(on_postgres: type[Company], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Ada (admin), Mira (manager) and two workers, all logged in."""
    company = on_postgres(tmp_path_factory.mktemp("template"))
    company.init("ada")
    company.hire_all({"mira": "manager", "kesha": "worker", "gosha": "worker"})
    company.log_in_all(["ada", "mira", "kesha"])
    yield company
    company.end()


@pytest.fixture
def company(template: Company, tmp_path: Path) -> Iterator[Company]:
    """A company on PostgreSQL for one test."""
    copy = template.copy_to(tmp_path / "company")
    yield copy
    copy.end()


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[ReplicatedCompany]:
    """A company whose database has a streaming standby; commits do not wait for it."""
    require_postgres()
    with ReplicatedCompany(tmp_path) as company:
        yield company
