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
before = set(sys.modules)
from popug_cli.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write("\\nMODULES " + " ".join(sorted(set(sys.modules) - before)))
sys.exit(code)
"""
START = (
    "popug_cli popug_cli.cli popug_cli.cli.main popug_cli.cli.help popug_cli.cli.help.fast_path popug_cli.kernel"
    " popug_cli.kernel.errors popug_cli.kernel.text popug_cli.platform popug_cli.platform.signals"
)
SURFACE = f"{START} popug_cli.cli.help.surface"
HELP = (
    f"{SURFACE} popug_cli.cli.help.help popug_cli.cli.output popug_cli.cli.output.blocks popug_cli.cli.output.printer"
    " msgspec typing_extensions"
)
COMPLETION = f"{SURFACE} popug_cli.cli.help.shell_completion"
NUMBERS = (
    f"{COMPLETION} popug_cli.messages popug_cli.kernel.disk_errors popug_cli.kernel.home popug_cli.kernel.progress"
    " popug_cli.platform.files popug_cli.platform.posix_errors popug_cli.kernel.home_owner popug_cli.platform.accounts"
    " popug_cli.platform.temporary popug_cli.app popug_cli.app.views popug_cli.app.views.shell_completion"
    " popug_cli.cli.state popug_cli.cli.state.session_file popug_cli.identity popug_cli.identity.shell_completion"
    " popug_cli.tasks popug_cli.tasks.shell_completion popug_cli.kernel.clock popug_cli.kernel.jwt_payload"
    " popug_cli.messages.base popug_cli.kernel.stored_values popug_cli.storage popug_cli.storage.id_index"
    " popug_cli.storage.read_only"
    " platformdirs msgspec typing_extensions"
)
COMPLETE_WORD = {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": "popug ta", "COMP_CWORD": "1"}
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
    ("arguments", "env", "allowed"),
    [
        (["--version"], {}, f"{START} popug_cli.cli.version"),
        (["--help"], {}, f"{HELP} rich"),
        (["task", "add", "--help"], {}, f"{HELP} rich"),
        (["task", "add", "--help", "--plain"], {}, f"{HELP} popug_cli.cli.output.plain_text"),
        (["--show-completion", "bash"], {}, f"{START} popug_cli.cli.help.shell_scripts"),
        ([], COMPLETE_WORD, COMPLETION),
        ([], COMPLETE_TASK, NUMBERS),
    ],
    ids=["version", "help", "help of a command", "plain help", "completion script", "word", "number of a task"],
)
def test_quick_answers_load_only_what_is_named(
    company: Company, arguments: list[str], env: dict[str, str], allowed: str
) -> None:
    """If a module has to be added here, measure its cost first: `python -m tests.benchmarks start_up`."""
    modules = loaded(arguments, company.environment("kesha", env), company.folder)
    own = {name for name in modules if name.partition(".")[0] == "popug_cli"}
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"popug_cli"}
    assert (own | others) - {*allowed.split()} == set()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["task", "list"], "tasks.task"),
        (["task", "add"], "tasks.task"),
        (["--json", "--home", "task", "explain", "balance"], "money.explain"),
        (["config", "show"], "operations.company"),
    ],
)
def test_command_loads_the_file_of_its_word_only(company: Company, arguments: list[str], file: str) -> None:
    code = LIST_MODULES.replace("sys.exit(code)", "")
    command = [sys.executable, "-c", code, *arguments]
    environment = company.environment("kesha")
    done = subprocess.run(command, env=environment, cwd=company.folder, capture_output=True, text=True, check=True)
    prefix, modules = "popug_cli.cli.commands.", done.stderr.rpartition("MODULES ")[2].split()
    loaded_files = {name.removeprefix(prefix) for name in modules if name.startswith(prefix)}
    assert loaded_files == {file, file.partition(".")[0]}


def test_unknown_word_is_answered_with_the_nearest_command(company: Company) -> None:
    assert "Did you mean 'dashboard'?" in company.run("dashbord").refused(2, "usage")["message"]


@pytest.mark.parametrize(
    "asked",
    [["task", "add", "Feed the cage"], ["task", "complete", "1"], ["balance"], ["tasks", "list"], ["today"]],
    ids=" ".join,
)
def test_everyday_command_imports_only_what_it_needs(company: Company, asked: list[str]) -> None:
    """Rich is for tables only. Everything else that is imported is Python's own, or a small package."""
    assignee = company.add_task("kesha", "Polish the perch")["assignee"]
    company.residence.end()  # a server, if there was one
    modules = loaded(asked, company.environment(assignee), company.folder)
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
    heavy = {
        "popug_cli.messages.billing",  # a second message, for the balance, needs it
        "popug_cli.storage.sqlite",
        "sqlite3",
        "sqlalchemy",
        "cryptography",
        "uvicorn",
        "http.client",
        "asyncio",
        "rich",
        "zoneinfo",
    }
    assert served & heavy == set()
    company.residence.end()
    assert "popug_cli.storage.sqlite" in loaded(["whoami"], company.environment("kesha"), company.folder)
