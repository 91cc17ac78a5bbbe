"""Unneeded modules are not loaded: the tests look at the modules of a finished process, not at a clock."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed_company import Company

HEAVY = {"sqlmodel", "sqlalchemy", "pydantic", "jwt", "apscheduler", "alembic", "jinja2"}
LIST_MODULES = """
import sys
from popug_cli.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write("\\nMODULES " + " ".join(sorted(sys.modules)))
sys.exit(code)
"""
COMPLETE_TASK = {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": "popug task complete ", "COMP_CWORD": "3"}


def loaded(arguments: list[str], environment: dict[str, str], folder: Path) -> set[str]:
    command = [sys.executable, "-c", LIST_MODULES, *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--version"], {}),
        (["--help"], {}),
        (["task", "add", "--help"], {}),
        ([], COMPLETE_TASK),
    ],
    ids=["version", "help", "help of a command", "completion"],
)
def test_help_version_and_completion_load_no_heavy_modules(
    company: Company, arguments: list[str], env: dict[str, str]
) -> None:
    modules = loaded(arguments, company.environment("kesha", env), company.folder)
    assert modules & (HEAVY | {"typer"}) == set()


def test_task_add_loads_no_scheduler_migrations_or_templates(company: Company) -> None:
    asked = ["task", "add", "Feed the cage"]
    modules = loaded(asked, company.environment("kesha"), company.folder)
    assert modules & {"apscheduler", "alembic", "jinja2", "sqlmodel", "pydantic"} == set()
    assert "sqlalchemy" in modules, "this looks at the wrong process"
    others = {name for name in modules if name.startswith("popug_cli.cli.")}
    assert (
        others
        & {
            "popug_cli.cli.commands.money.accounts",
            "popug_cli.cli.commands.people.user",
            "popug_cli.cli.commands.start.demo",
        }
        == set()
    )


def test_task_add_loads_no_sqlalchemy_while_company_is_served(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Company, "is_served", True)
    company.be_served()
    served = loaded(["task", "add", "Feed the cage"], company.environment("kesha"), company.folder)
    heavy = {"sqlalchemy", "sqlmodel", "pydantic", "jwt", "uvicorn", "http.client", "asyncio", "rich", "zoneinfo"}
    assert served & heavy == set()
    company.residence.end()
    assert "sqlalchemy" in loaded(["whoami"], company.environment("kesha"), company.folder)
