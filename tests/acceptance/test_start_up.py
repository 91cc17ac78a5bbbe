"""Unneeded modules are not loaded: the tests look at the modules of a finished process, not at a clock."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed_company import Company

HEAVY = {"sqlmodel", "sqlalchemy", "pydantic", "jwt", "apscheduler", "alembic", "jinja2", "email_validator"}
EVERYDAY_PACKAGES = {
    *("popug_cli", "typer", "msgspec", "cryptography", "platformdirs", "rich", "annotated_doc", "shellingham"),
    *("typing_extensions", "markdown_it", "mdurl", "pygments"),
}
OTHER_COMMANDS = {
    "popug_cli.cli.commands.people.user",
    "popug_cli.cli.commands.start.demo",
    "popug_cli.storage.migrations",
}
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


@pytest.mark.parametrize(
    "asked",
    [["task", "add", "Feed the cage"], ["task", "complete", "1"], ["balance"], ["tasks", "list"], ["today"]],
    ids=" ".join,
)
def test_everyday_command_imports_only_what_it_needs(company: Company, asked: list[str]) -> None:
    """Rich is for tables only. Everything else that is imported is Python's own, or a small package."""
    company.add_task("kesha", "Polish the perch")
    modules = loaded(asked, company.environment("kesha"), company.folder)
    packages = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert packages & HEAVY == set()
    assert {name for name in packages if not name.startswith("_")} <= EVERYDAY_PACKAGES
    assert modules & {"asyncio", "email", "http.client", "ssl", "urllib.request", "cryptography.x509"} == set()
    assert "popug_cli.storage.sqlite" in modules, "this looks at the wrong process"
    assert OTHER_COMMANDS & modules == set()


def test_task_add_loads_no_database_while_company_is_served(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Company, "is_served", True)
    company.be_served()
    served = loaded(["task", "add", "Feed the cage"], company.environment("kesha"), company.folder)
    heavy = {"sqlite3", "sqlalchemy", "cryptography", "litestar", "http.client", "asyncio", "rich", "zoneinfo"}
    assert served & heavy == set()
    company.residence.end()
    assert "sqlite3" in loaded(["whoami"], company.environment("kesha"), company.folder)
