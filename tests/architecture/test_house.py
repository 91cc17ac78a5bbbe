"""Checks of all folders, names and imports: each is a function of a tree of files, and is run on a made-up one, too."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLATFORM = ROOT / "popug_cli/platform"
DECISIONS = ROOT / ".github/decisions"
MAX_FILES_PER_FOLDER = 24
EXEMPT_FOLDERS = {"schemas", "versions", "templates", "generated"}


def python_files(tree: Path) -> list[Path]:
    return sorted(tree.rglob("*.py"))


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


# --- class names ---------------------------------------------------------------------------------


def duplicate_classes(tree: Path) -> list[str]:
    """Every class name that is defined more than once, with its places; tables (``*Row``) may share one."""
    places: dict[str, list[str]] = {}
    for file in python_files(tree):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.endswith("Row"):
                places.setdefault(node.name, []).append(f"{file.relative_to(tree.parent)}:{node.lineno}")
    return [f"{name} is defined in {' and '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1]


def test_class_name_is_defined_once() -> None:
    assert duplicate_classes(ROOT / "popug_cli") == []


def test_duplicate_class_is_found(tmp_path: Path) -> None:
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/one.py").write_text("T = TypeVar('T')\n\nclass Desk:\n    pass\n\nclass TaskRow:\n    pass\n")
    (tmp_path / "a/deep/two.py").write_text("T = TypeVar('T')\nclass TaskRow: ...\ndef f():\n    class Desk: ...\n")
    assert duplicate_classes(tmp_path / "a") == ["Desk is defined in a/deep/two.py:4 and a/one.py:3"]


# --- folders -------------------------------------------------------------------------------------


def crowded_folders(*trees: Path) -> list[str]:
    """Every folder with too many Python files, ``__init__.py`` not counted."""
    counts: dict[Path, int] = {}
    for tree in trees:
        for file in python_files(tree):
            folder = file.parent.relative_to(tree.parent)
            if file.name != "__init__.py" and not EXEMPT_FOLDERS & set(folder.parts):
                counts[folder] = counts.get(folder, 0) + 1
    return [f"{folder} has {count} files" for folder, count in counts.items() if count > MAX_FILES_PER_FOLDER]


def test_folders_are_small() -> None:
    assert crowded_folders(ROOT / "popug_cli", ROOT / "tests") == []


def test_crowded_folder_is_found(tmp_path: Path) -> None:
    for folder, count in {"full": 24, "crowded": 25, "versions": 30, "crowded/part": 1}.items():
        (tmp_path / "house" / folder).mkdir(parents=True)
        (tmp_path / "house" / folder / "__init__.py").touch()
        for number in range(count):
            (tmp_path / "house" / folder / f"file{number}.py").touch()
    assert crowded_folders(tmp_path / "house") == ["house/crowded has 25 files"]


# --- imports -------------------------------------------------------------------------------------


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, those under ``if`` and ``try`` included."""
    for node in body:
        if is_type_checking(node):
            assert isinstance(node, ast.If)
            yield from module_level(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from module_level(getattr(node, part, []))


def imported_names(node: ast.stmt, package: str) -> list[str]:
    """Return the full names that a statement may import: ``from a import b`` imports the module a.b, or b from a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parents = package.split(".")
    base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
    origin = ".".join(filter(None, [base, node.module]))
    return [f"{origin}.{alias.name}" for alias in node.names]


def import_graph(tree: Path) -> dict[str, dict[str, str]]:
    """By the name of each module the modules that it imports when it is imported, each with file and line."""
    files = {".".join(file.relative_to(tree.parent).with_suffix("").parts): file for file in python_files(tree)}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph: dict[str, dict[str, str]] = {name: {} for name in files}
    for module, file in files.items():
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for node in module_level(ast.parse(file.read_text()).body):
            for name in imported_names(node, package):
                target = name if name in files else name.rpartition(".")[0]
                if target in files and target != module:
                    graph[module].setdefault(target, f"{file.relative_to(tree.parent)}:{node.lineno}")
    return graph


def import_circles(tree: Path) -> list[str]:
    """A circle for each module from which imports lead back to where they came from; empty where there is none."""
    graph, finished = import_graph(tree), set[str]()
    circles: list[str] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            circle = [*path[path.index(module) :], module]
            circles.append(", ".join(f"{graph[one][other]} imports {other}" for one, other in pairwise(circle)))
        elif module not in finished:
            for target in graph[module]:
                visit(target, [*path, module])
            finished.add(module)

    for module in graph:
        visit(module, [])
    return circles


def test_imports_form_no_circle() -> None:
    assert import_circles(ROOT / "popug_cli") == []


def test_import_circle_is_found(tmp_path: Path) -> None:
    sources = {
        "__init__": "",
        "one": "import os\nfrom house import two\n",
        "two": "try:\n    from house.three import name\nexcept ImportError:\n    pass\n",
        "three": "from . import one\nname = one\n",
        "four": "def late():\n    import house.five\n",
        "five": "if TYPE_CHECKING:\n    import house.six\nimport house.four\n",
        "six": "import house.five\n",
    }
    (tmp_path / "house").mkdir()
    for name, source in sources.items():
        (tmp_path / f"house/{name}.py").write_text(source)
    assert import_circles(tmp_path / "house") == [
        "house/one.py:2 imports house.two, house/two.py:2 imports house.three, house/three.py:1 imports house.one"
    ]


# --- one home ------------------------------------------------------------------------------------

HOMES = {
    "__context__": "platform/signals.py",
    "urlsafe_b64decode": "kernel/jwt_payload.py",
    "2 ** min(": "kernel/backoff.py",
    '.split(".")[:2]': "kernel/version.py",
    'bus.max_attempts")': "bus/retry.py",
}


def strays(tree: Path, text: str, home: str) -> list[str]:
    """The files that do by themselves what has one home; the home is one of them if it no longer does it."""
    having = {file.relative_to(tree).as_posix() for file in python_files(tree) if text in file.read_text()}
    return sorted(having ^ {home})


@pytest.mark.parametrize(("text", "home"), HOMES.items())
def test_rule_has_one_home(text: str, home: str) -> None:
    assert strays(ROOT / "popug_cli", text, home) == []


def test_second_home_is_found(tmp_path: Path) -> None:
    for name, source in {"home": "2 ** min(1, 2)", "stray": "3 * 2 ** min(1, 2)", "other": ""}.items():
        (tmp_path / f"{name}.py").write_text(source)
    assert strays(tmp_path, "2 ** min(", "home.py") == ["stray.py"]
    assert strays(tmp_path, "2 ** max(", "home.py") == ["home.py"]


# --- the platform --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(PLATFORM.glob("[!_]*.py")), ids=lambda file: file.name)
def test_platform_file_names_its_decision(file: Path) -> None:
    """The paragraph says which failure the file prevents and how it was observed; the record has the details."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    records = [part.split("`")[0] for part in text.split("decisions/")[1:]]
    assert records
    assert all((DECISIONS / record).is_file() for record in records)
    assert len(text.split("\n\n")) >= 2
