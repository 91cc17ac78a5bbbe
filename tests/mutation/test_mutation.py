"""The report of ``python -m tests.mutation`` for a program of three functions, of which one is well tested."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.equivalent import Equivalent, is_letter_case_of_sql, named

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS, ATTEMPTS = 180, 2
SAMPLE = """\
def guarded(cents: int) -> int:
    return cents + 1


def called(cents: int) -> int:
    return cents + 2


def forgotten(cents: int) -> int:
    return cents + 3
"""
TESTS = """\
from popug_cli.bus.sample import called, guarded


def test_one_is_added():
    assert guarded(1) == 2


def test_nothing_is_asked():
    called(1)
"""
EQUIVALENT = """\
[[equivalent]]
function = "bus.sample.called"
was = "return cents + 2"
becomes = ["return cents + 3"]
reason = "nobody asks"

[[equivalent]]
function = "bus.sample.guarded"
was = "return cents + 1"
reason = "it was another program"
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command in its own tree, with a program of one module and its tests."""
    root = tmp_path_factory.mktemp("program")
    shutil.copytree(ROOT / "tests/mutation", root / "tests/mutation", ignore=shutil.ignore_patterns("test_*"))
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "tests/conftest.py", root / "tests")
    shutil.copytree(ROOT / "tests/support/postgres", root / "tests/support/postgres")  # the conftest imports it
    for file, content in {
        "popug_cli/__init__.py": "",
        "popug_cli/bus/__init__.py": "",
        "popug_cli/bus/sample.py": SAMPLE,
        "tests/__init__.py": "",
        "tests/support/__init__.py": "",
        "tests/unit/test_sample.py": TESTS,
        "tests/integration/__init__.py": "",
        "tests/mutation/equivalent.toml": EQUIVALENT,
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(content)
    return root


def run(program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "tests.mutation", *arguments]
    for _ in range(ATTEMPTS):
        with subprocess.Popen(
            line, cwd=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                out, errors = process.communicate(timeout=LIMIT_SECONDS)
            except subprocess.TimeoutExpired:  # sometimes, mutmut's fork server waits for a child that has ended
                os.killpg(process.pid, signal.SIGKILL)
            else:
                return subprocess.CompletedProcess(line, process.returncode, out, errors)
    raise AssertionError(f"{line} did not end within {LIMIT_SECONDS} seconds, {ATTEMPTS} times")


def figures(done: "subprocess.CompletedProcess[str]") -> str:
    return " ".join(done.stdout.splitlines()[-1].split())


def test_survivor_is_shown_and_run_again_with_a_new_test(program: Path) -> None:
    done = run(program, "bus")
    assert done.returncode == 1, done.stderr
    assert figures(done) == "bus 6 2 1 2 0 1 40.0 % 90 % MISSED"
    assert "survived: bus.sample.called\n  was:     return cents + 2\n  becomes: return cents - 2\n" in done.stdout
    assert "  replay: python -m tests.mutation --mutant popug_cli.bus.sample.x_called__mutmut_1\n" in done.stdout
    assert "no tests: bus.sample.forgotten\n" in done.stdout
    assert "bus.sample.guarded\n  was" not in done.stdout
    assert "stale in equivalent.toml: bus.sample.guarded: return cents + 1\n" in done.stdout

    with (program / "tests/unit/test_sample.py").open("a") as tests:
        tests.write("\n\ndef test_two_are_added():\n    assert called(1) == 3\n")
    assert figures(run(program, "bus.sample", "--untried")) == "bus 6 2 1 2 0 1 40.0 % 90 % MISSED"
    done = run(program, "bus.sample", "--again")
    assert figures(done) == "bus 6 4 0 2 0 0 66.7 % 90 % MISSED"


@pytest.mark.parametrize(
    ("was", "became", "is_equivalent"),
    [
        ('"SELECT name FROM people WHERE id = :id"', '"select name from people where id = :id"', True),
        ('"SELECT name FROM people WHERE id = :id"', '"SELECT NAME FROM PEOPLE WHERE ID = :ID"', False),
        ("\" AND state = 'dead'\"", "\" and state = 'dead'\"", True),
        ("\" AND state = 'dead'\"", "\" AND STATE = 'DEAD'\"", False),
        ('"SELECT name"', '"XXSELECT nameXX"', False),
        ('"There is no such day."', '"there is no such day."', False),
    ],
)
def test_letter_case_is_equivalent_only_if_sqlite_ignores_it(was: str, became: str, is_equivalent: bool) -> None:
    assert is_letter_case_of_sql((was, became)) == is_equivalent


@pytest.mark.parametrize("entry", named(), ids=lambda entry: entry.function)
def test_equivalent_mutant_names_a_line_of_the_program(entry: Equivalent) -> None:
    *module, name = entry.function.split(".")
    path = ROOT / "popug_cli" / "/".join(module)
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path.parent.with_suffix(".py")
    source = file.read_text()
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == name]
    texts = [" ".join((ast.get_source_segment(source, each) or "").split()) for each in functions]
    assert any(" ".join(entry.was.split()) in text for text in texts), f"{entry.function} has no line {entry.was!r}"
