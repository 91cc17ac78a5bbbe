"""Companies that are created once and copied, since every process start takes half a second."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.acceptance.answers", "tests.support.installed_company")

from tests.acceptance import not_on_a_cluster, sqlite_only  # noqa: E402
from tests.support.installed_company import Company  # noqa: E402  (after its assertions are registered)


def pytest_configure(config: pytest.Config) -> None:
    """Let a server hold the companies, if that was asked for."""
    Company.is_served = config.getoption("--place") == "server"
    Company.is_clustered = config.getoption("--place") == "cluster"


@pytest.hookimpl(tryfirst=True)  # before options such as -m select by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that are about the file of SQLite; leave out those that do not run in the chosen place."""
    for item in items:
        if why := sqlite_only.reason(item.path.name, item.name):
            item.add_marker(pytest.mark.sqlite_file(why))
    if left_out_reason := {"postgres": sqlite_only.reason, "cluster": not_on_a_cluster.reason}.get(
        config.getoption("--place")
    ):
        left_out = [item for item in items if left_out_reason(item.path.name, item.name)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the tests that were left out."""
    places = {"postgres": (sqlite_only.lines, "PostgreSQL"), "cluster": (not_on_a_cluster.lines, "a cluster")}
    if found := places.get(config.getoption("--place")):
        lines, place = found
        terminalreporter.section(f"tests that do not run on {place}")
        for line in lines():
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _ends_companies() -> Iterator[None]:
    """End the servers and databases of a test's companies after it."""
    before = len(Company.served)
    yield
    for company in Company.served[before:]:
        company.end()


@pytest.fixture(scope="session", autouse=True)
def _ends_all_companies(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.config.getoption("--place") == "postgres":
        Company.database_server = request.getfixturevalue("postgres")
    yield
    for company in Company.served:
        company.end()


STAFF = {"mira": "manager", "asya": "accountant", "kesha": "worker", "gosha": "worker"}


@pytest.fixture(scope="session")
def staff_template(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """Ada (admin), Mira (manager), Asya (accountant), Kesha and Gosha (workers), all logged in."""
    company = Company(tmp_path_factory.mktemp("staff"), is_template=True)
    company.init("ada")
    company.hire_all(STAFF)
    company.log_in_all(["ada", *STAFF])
    return company


@pytest.fixture(scope="session")
def lone_template(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """Ada (admin) and Kesha, the only assignable user."""
    company = Company(tmp_path_factory.mktemp("lone"), is_template=True)
    company.init("ada")
    company.hire("kesha", "worker")
    company.log_in_all(["ada", "kesha"])
    return company


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a short name."""
    return tmp_path_factory.mktemp("c")


@pytest.fixture
def company(staff_template: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A new company of five users for one test."""
    return staff_template.copy_to(tmp_path_factory.mktemp("c"))


@pytest.fixture
def lone(lone_template: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A new company of an admin and one worker for one test."""
    return lone_template.copy_to(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="module")
def staff(staff_template: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A company of five users, shared by the tests of one file that do not change it."""
    return staff_template.copy_to(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def earned_template(lone_template: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The company of two in which Kesha has completed four tasks, and so has a positive balance."""
    company = lone_template.copy_to(tmp_path_factory.mktemp("earned"), is_template=True)
    company.import_tasks("kesha", ["Feed the cage", "Wipe <b>the</b> glass & bars", "Mend the swing", "Oil the hinge"])
    company.ask_all(("kesha", ("task", "complete", str(number))) for number in (1, 2, 3, 4))
    return company


@pytest.fixture
def earned(earned_template: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A company of an admin and a worker with four tasks completed today, for one test."""
    return earned_template.copy_to(tmp_path_factory.mktemp("c"))
