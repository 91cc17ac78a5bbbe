"""Imports: a second import, ids that another user took, the limit of lines, and composed letters."""

from pathlib import Path

import pytest

from popug_cli.kernel.errors import NotAllowed
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import ImportTasks, NewTask, TakenId, TaskImportResult
from popug_cli.tasks import commands
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, company_at, refused

UUID = "0190a1b2-0000-7000-8000-000000000001"


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    company = company_at(tmp_path / "home")
    company.hire("mona", "manager")
    company.hire("abacus", "accountant")
    return company


def bring_in(company: InProcess, by: str, *lines: NewTask | None, again: bool = False) -> TaskImportResult:
    return company.act(by, ImportTasks(lines=lines, again=again))


def titles(company: InProcess) -> list[str]:
    return [task.title for task in company.act("boss", ALL).tasks]


@pytest.mark.parametrize("given", [{"jira_id": "POPUG-7"}, {"task_id": UUID}])
def test_line_with_an_id_that_another_took_is_named(company: InProcess, given: dict[str, str]) -> None:
    bring_in(company, "kesha", NewTask(title="Junk", **given))
    result = bring_in(company, "mona", None, NewTask(title="Feed the cage", **given), NewTask(title="Mend"))
    (identifier,) = given.values()
    assert result == TaskImportResult(1, 1, (TakenId(2, identifier, "Feed the cage", 1, "Junk", "kesha"),), 1)
    assert titles(company) == ["Junk", "Mend"]


def test_id_given_twice_in_a_file_is_named(company: InProcess) -> None:
    lines = [NewTask(title="Feed", jira_id="P-1"), NewTask(title="Other", jira_id="p-1"), NewTask(title="[P-1] feed")]
    result = bring_in(company, "mona", *lines)
    assert (result.imported, result.skipped, result.taken_count) == (1, 2, 1)
    assert [(taken.line, taken.title) for taken in result.taken] == [(2, "Other")]


def test_second_import_of_a_file_names_nothing(company: InProcess) -> None:
    lines = [NewTask(title="Feed", jira_id="P-1"), NewTask(title="Mend"), NewTask(title="Oil", task_id=UUID)]
    bring_in(company, "kesha", *lines)
    assert bring_in(company, "mona", *lines) == TaskImportResult(0, 3)


def test_only_the_first_taken_ids_are_listed(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_TAKEN", 3)
    monkeypatch.setattr(commands, "TASKS_AT_ONCE", 2)
    bring_in(company, "kesha", *(NewTask(title="Junk", jira_id=f"P-{n}") for n in range(7)))
    result = bring_in(company, "mona", *(NewTask(title="Feed", jira_id=f"P-{n}") for n in range(7)))
    assert [taken.id for taken in result.taken] == ["P-0", "P-1", "P-2"]
    assert (result.imported, result.skipped, result.taken_count) == (0, 7, 7)


def test_again_imports_every_line(company: InProcess) -> None:
    lines = [NewTask(title="Feed"), NewTask(title="Mend", jira_id="P-1"), NewTask(title="Mend it", jira_id="P-1")]
    assert bring_in(company, "kesha", *lines[:2]) == TaskImportResult(2, 0)
    assert bring_in(company, "kesha", *lines, again=True) == TaskImportResult(3, 0)
    assert titles(company) == ["Feed", "Mend", "Feed", "Mend", "Mend it"]
    assert bring_in(company, "kesha", *lines[:2]) == TaskImportResult(0, 2)


def test_again_in_a_new_company_records_each_line_once(company: InProcess) -> None:
    lines = [NewTask(title="Mend", jira_id="P-1"), NewTask(title="Mend", jira_id="P-1")]
    assert bring_in(company, "kesha", *lines, again=True) == TaskImportResult(2, 0)
    assert company.rows("SELECT identity, number FROM tasks_imported") == [{"identity": "jira_id P-1", "number": 1}]


@pytest.mark.parametrize("role", ["kesha", "abacus"])
def test_import_of_a_worker_or_accountant_is_bounded(
    company: InProcess, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPUG_TASKS_IMPORT_LIMIT", "3")
    limited = company_at_limit(company)
    lines = [NewTask(title=f"Task {number}") for number in range(4)]
    error = refused(limited, role, ImportTasks(lines=lines))
    assert isinstance(error, NotAllowed)
    assert (error.code, error.details) == ("forbidden", {"limit": 3})
    assert "tasks.import_limit" in error.hint
    assert titles(limited) == []
    assert bring_in(limited, role, None, *lines[:3], None).imported == 3
    for manager in ("mona", "boss"):
        assert bring_in(limited, manager, *lines).imported == (1 if manager == "mona" else 0)


def company_at_limit(company: InProcess) -> InProcess:
    """Return the company with its settings read again."""
    from popug_cli.app import LocalBackend

    backend = company.backend
    company.backend = LocalBackend(
        backend.home, warn=company.warnings.append, clock=company.clock, randomness=company.chance
    )
    return company


def test_decomposed_key_of_an_older_version_is_found(company: InProcess) -> None:
    bring_in(company, "kesha", NewTask(title="Feed"))
    with company.backend.runtime.writing(OPERATOR) as context:
        statement = "UPDATE tasks_imported SET identity = ? WHERE number = 1"
        context.connection.execute(statement, "title 1 Cafe\u0301")
    assert bring_in(company, "kesha", NewTask(title="Caf\u00e9")) == TaskImportResult(0, 1)
    assert bring_in(company, "kesha", NewTask(title="Cafe\u0301"), NewTask(title="Caf\u00e9")).imported == 1
