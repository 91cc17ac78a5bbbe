"""Check the rules of style that no linter checks: sizes, one printer, two broad excepts, test names and words."""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from popug_cli.kernel import errors

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "popug_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400
MAX_TEST_NAME_LENGTH = 60
BROAD_EXCEPTS = {"bus/consumers.py", "cli/main.py", "server/application.py"}
BROAD = {"Exception", "BaseException"}
PRIVATE_WORDS = (
    "told|tells of|anew|amidst?|whoever|somebody|nobody|everybody|hears?|heard|beside|meanwhile|once more|now and then"
    "|for good|no more(?! than)|in the place of|comes? back|came back|gives? back|gave back|given back"
)
PRIVATE_WORD = re.compile(rf"\b({PRIVATE_WORDS})\b".replace(" ", r"\s+"), re.IGNORECASE)
INVERTED_BEGINNING = re.compile(r"(Who|Whose|What)\b.*")
ERROR_CLASSES = {
    name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.PopugError)
}
READ_KEYWORDS = {"help", "hint", "epilog"}
ALLOWED_COUNTS: dict[str, int] = {}  # by folder; a folder that is not listed has none

PLURAL_NOUNS = (
    "people|tasks|days|mails|events|entries|payouts|candidates|assignments|rows|differences|runs|checks|keys|records"
)
HAND_MADE_PLURAL = re.compile(
    r"""[!=]= 1 else f?["']|else ["']s["']|\{(?!M(?:AX|IN)_)[^{}"]*\} (?:""" + PLURAL_NOUNS + r")\b",
)

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
    """Return the lines of the handlers that catch everything and do not end with `raise`."""
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
def test_broad_except_stands_at_the_three_boundaries_only(file: Path) -> None:
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
def test_broad_except_is_recognised(source: str, found: list[int]) -> None:
    assert swallowing_excepts(ast.parse(source)) == found


# --- names of tests -----------------------------------------------------------------------------


def long_test_names(file: str, tree: ast.Module) -> list[str]:
    """Return the file, line and name of each test with a too long name."""
    tests = [function for function in functions(tree) if function.name.startswith("test_")]
    return [f"{file}:{test.lineno}: {test.name}" for test in tests if len(test.name) > MAX_TEST_NAME_LENGTH]


def test_test_names_have_at_most_60_characters() -> None:
    files = sorted(TESTS.rglob("test_*.py"))
    assert files
    found = [
        name
        for file in files
        for name in long_test_names(f"tests/{file.relative_to(TESTS)}", ast.parse(file.read_text()))
    ]
    assert found == [], "These names are longer than 60 characters:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("name", "is_found"), [("test_" + "x" * 55, False), ("test_" + "x" * 56, True), ("help_" + "x" * 56, False)]
)
def test_long_test_name_is_found_with_file_and_line(name: str, is_found: bool) -> None:
    found = long_test_names("tests/test_x.py", ast.parse(f"import os\n\ndef {name}(): ..."))
    assert found == ([f"tests/test_x.py:3: {name}"] if is_found else [])


# --- words of prose -----------------------------------------------------------------------------


class Prose(NamedTuple):
    """A text that people read, and the line that it begins in."""

    line: int
    text: str
    is_docstring: bool


def prose_of(tree: ast.Module) -> Iterator[Prose]:
    """Yield the docstrings of a module, the sentences of its errors, and its help texts and hints."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                yield Prose(node.body[0].lineno, ast.get_docstring(node, clean=False) or "", is_docstring=True)
        elif isinstance(node, ast.Call):
            for argument in read_arguments(node):
                yield from strings_in(argument)


def read_arguments(call: ast.Call) -> list[ast.expr]:
    """Return the arguments of a call that people read; the code and the details of an error are for programs."""
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", "")
    is_error = name in ERROR_CLASSES
    read = READ_KEYWORDS | ({"message"} if is_error else set())
    return (call.args[1:] if is_error else []) + [each.value for each in call.keywords if each.arg in read]


def strings_in(argument: ast.expr) -> Iterator[Prose]:
    parts = (part for part in ast.walk(argument) if isinstance(part, ast.Constant))
    return (Prose(part.lineno, part.value, is_docstring=False) for part in parts if isinstance(part.value, str))


def prose_faults(file: str, tree: ast.Module) -> Iterator[str]:
    """Yield file, line and words of each listed word, and of each docstring that begins with an inverted clause."""
    for line, text, is_docstring in sorted(prose_of(tree)):
        for match in PRIVATE_WORD.finditer(text):
            offset = text.count("\n", 0, match.start()) if is_docstring else 0
            yield f"{file}:{line + offset}: “{' '.join(match.group().split())}” is on the word list"
        first_line = text.strip().partition("\n")[0].rstrip()
        if is_docstring and INVERTED_BEGINNING.match(first_line) and not first_line.endswith("?"):
            yield f"{file}:{line}: the docstring begins with “{first_line.split()[0]}” and is not a question"


def faults_by_folder() -> dict[str, list[str]]:
    """Return the faults of each folder of the program, also of a folder without any."""
    faults: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        found = prose_faults(f"popug_cli/{file.relative_to(PACKAGE)}", ast.parse(file.read_text()))
        faults[file.relative_to(PACKAGE).parent.as_posix()] += found
    return faults


def judgement(folder: str, faults: list[str], allowed: int) -> str:
    """Return a sentence if a folder has another number of faults than allowed, else an empty text."""
    if len(faults) > allowed:
        return "\n".join([f"{folder}: {len(faults)} faults of prose, allowed are {allowed}:", *faults])
    if len(faults) < allowed:
        return f"{folder}: {len(faults)} faults of prose, so lower ALLOWED_COUNTS[{folder!r}] to {len(faults)}"
    return ""


def test_prose_has_no_listed_words() -> None:
    faults = faults_by_folder()
    assert set(ALLOWED_COUNTS) <= set(faults), "ALLOWED_COUNTS names a folder that does not exist"
    judgements = [judgement(folder, found, ALLOWED_COUNTS.get(folder, 0)) for folder, found in sorted(faults.items())]
    assert not any(judgements), "\n".join(filter(None, judgements))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""A module.\n\nIt is\ntold."""', ["m.py:4: “told” is on the word list"]),
        ('import os\n\ndef f():\n    """Wait once\n    more."""', ["m.py:4: “once more” is on the word list"]),
        ('class C:\n    """Nobody may."""', ["m.py:2: “Nobody” is on the word list"]),
        ('raise Conflict(\n    "told",\n    f"{name} was told.",\n)', ["m.py:3: “told” is on the word list"]),
        ('raise errors.NotFound("x", "No.", hint="Try it anew.")', ["m.py:1: “anew” is on the word list"]),
        ('raise PopugError("x", message=a if b else "Told.")', ["m.py:1: “Told” is on the word list"]),
        ('Option(\n    help="Tell whoever asks.")', ["m.py:2: “whoever” is on the word list"]),
        ('app(epilog="For good.")', ["m.py:1: “For good” is on the word list"]),
        ('"""What it does."""', ["m.py:1: the docstring begins with “What” and is not a question"]),
        (
            'async def f():\n    """\n    Whose it is.\n\n    Is it?\n    """',
            ["m.py:2: the docstring begins with “Whose” and is not a question"],
        ),
    ],
)
def test_fault_of_prose_is_found_with_file_and_line(source: str, found: list[str]) -> None:
    assert list(prose_faults("m.py", ast.parse(source))) == found


@pytest.mark.parametrize(
    "source",
    [
        '"""Show no more than ten, and no more\nthan twenty."""',
        '"""What does it do?\n\nIt waits.\n"""',
        '"""Whatever is asked for is answered; besides, what is retold is left out."""',
        "# told, whoever\nx = 1",
        'x = "told"',
        'log("told", text="whoever")',
        'raise ValueError("x", "told")',
        'raise Conflict("told", "It was done.", details={"told": "whoever"})',
        'def f():\n    """Return."""\n    """told"""',
    ],
)
def test_plain_or_unread_text_is_not_a_fault(source: str) -> None:
    assert list(prose_faults("m.py", ast.parse(source))) == []


def test_error_classes_are_found_by_introspection() -> None:
    assert {"PopugError", "Conflict", "Unavailable"} <= ERROR_CLASSES
    assert "Mapping" not in ERROR_CLASSES


@pytest.mark.parametrize(
    ("count", "allowed", "said"),
    [
        (1, 1, ""),
        (2, 1, "bus: 2 faults of prose, allowed are 1:\nbus/x.py:0: a word\nbus/x.py:1: a word"),
        (1, 2, "bus: 1 faults of prose, so lower ALLOWED_COUNTS['bus'] to 1"),
    ],
)
def test_allowed_count_may_only_fall(count: int, allowed: int, said: str) -> None:
    assert judgement("bus", [f"bus/x.py:{line}: a word" for line in range(count)], allowed) == said


def hand_made_plurals(source: str) -> list[str]:
    return HAND_MADE_PLURAL.findall(source)


@every_file
def test_plurals_are_made_in_one_place(file: Path) -> None:
    found = [] if file == PACKAGE / "kernel" / "text.py" else hand_made_plurals(file.read_text())
    assert found == [], "use counted() of popug_cli/kernel/text.py, which makes every plural"


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("f\"{count} task{'' if count == 1 else 's'}\"", True),
        ("'1 mail was' if count == 1 else f'{count} mails were'", True),
        ('f"Shuffled among {count:,} people."', True),
        ('f"{len(overdue)} days are open"', True),
        ('f"at most {MAX_DAYS} days"', False),
        ("f\"among {counted(count, 'person', 'people')}.\"", False),
        ("line if number == 1 else rest", False),
    ],
)
def test_hand_made_plural_is_found(source: str, is_found: bool) -> None:
    assert bool(hand_made_plurals(source)) is is_found
