"""What the style asks for and no linter checks: sizes, one printer, two broad excepts."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "popug_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400
BROAD_EXCEPTS = {"bus/consumers.py", "cli/main.py"}
BROAD = {"Exception", "BaseException"}

every_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def too_long(tree: ast.Module) -> list[str]:
    sizes = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions(tree)}
    return [f"{name} has {size} lines" for name, size in sizes.items() if size > MAX_FUNCTION_LINES]


def prints(tree: ast.Module) -> list[int]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [func.lineno for func in calls if isinstance(func, ast.Name) and func.id == "print"]


def swallowing_excepts(tree: ast.Module) -> list[int]:
    """Lines of the handlers that catch everything and do not raise it again as the last thing they do."""
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    return [handler.lineno for handler in handlers if is_broad(handler.type) and not ends_with_raise(handler)]


def is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(is_broad(each) for each in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in BROAD)


def ends_with_raise(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@every_file
def test_functions_are_short(file: Path) -> None:
    assert too_long(ast.parse(file.read_text())) == []


@every_file
def test_files_are_of_one_subject_and_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_FILE_LINES


@every_file
def test_nothing_prints_but_the_printer(file: Path) -> None:
    assert prints(ast.parse(file.read_text())) == []


@every_file
def test_a_broad_except_stands_at_the_two_boundaries_only(file: Path) -> None:
    if file.relative_to(PACKAGE).as_posix() not in BROAD_EXCEPTS:
        assert swallowing_excepts(ast.parse(file.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("try:\n    work()\nexcept Exception:\n    pass", [3]),
        ("try:\n    work()\nexcept (ValueError, BaseException):\n    pass", [3]),
        ("try:\n    work()\nexcept:\n    pass", [3]),
        ("try:\n    work()\nexcept BaseException:\n    undo()\n    raise", []),
        ("try:\n    work()\nexcept ValueError:\n    pass", []),
    ],
)
def test_a_broad_except_is_recognised(source: str, found: list[int]) -> None:
    assert swallowing_excepts(ast.parse(source)) == found
