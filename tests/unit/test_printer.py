"""Tables at terminals of any width: text that does not fit is cut in flexible columns only."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from popug_cli.cli.output.blocks import Block, Column, Heading, Hint, Panel, Table
from popug_cli.cli.output.printer import Printer

ROWS = [["1", "done", "a title that is rather long for a narrow terminal", "kesha"]]
COLUMNS = [Column("#", align_right=True), Column("status"), Column("title", shrinks=True), Column("assignee")]


def shown(width: int, columns: list[Column], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    Printer(out=out).blocks([Table(columns, ROWS)])
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [45, 60, 79])
def test_flexible_column_is_shortened(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(width, COLUMNS, monkeypatch)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "kesha" in line)
    assert row.split()[:3] == ["1", "done", "a"]
    assert ("…" in row) == (width < 79)


def test_fixed_columns_are_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = [Column(column.name) for column in COLUMNS]
    (row,) = (line for line in shown(30, fixed, monkeypatch) if "kesha" in line)
    assert row.split() == " ".join(ROWS[0]).split()


@pytest.mark.parametrize(
    ("width", "names"), [(79, "# jira title age"), (45, "# title age"), (38, "# title"), (20, "# title")]
)
def test_spare_columns_are_dropped_before_title_is_cut(width: int, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [
        Column("#"),
        Column("jira", drop_priority=2),
        Column("title", shrinks=True),
        Column("age", drop_priority=1),
    ]
    out = io.StringIO()
    Printer(out=out).blocks([Table(columns, [["1", "POPUG-7", "a title that is rather long", "5 min"]])])
    assert out.getvalue().split("\n")[1].split() == names.split()
    assert max(map(len, out.getvalue().splitlines())) <= max(width, 20)


SCREEN: list[Block] = [
    Heading("Work"),
    Table(
        [Column("#", accessible_name="number"), Column("Title"), Column("", is_chart=True)],
        [["1", "Feed", "###"], ["2", "", ""]],
    ),
    Table([Column("x")], [], empty="There is nothing."),
    Panel("Next", [("popug today", "See your day.")]),
    Hint("Next: popug today"),
]


def test_plain_prints_one_record_per_line_with_names() -> None:
    out = io.StringIO()
    Printer(out=out, plain=True).blocks(SCREEN)
    assert out.getvalue().splitlines() == [
        "Work",
        "number 1, title Feed",
        "number 2",
        "There is nothing.",
        "Next:",
        "popug today: See your day.",
        "Next: popug today",
    ]


@pytest.mark.parametrize(("locale", "is_ascii"), [("C", True), ("en_US.ISO-8859-1", True), ("de_DE.utf8", False)])
def test_boxes_are_ascii_in_an_ascii_locale(locale: str, is_ascii: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    out = io.StringIO()
    Printer(out=out).blocks(SCREEN)
    assert out.getvalue().isascii() is is_ascii


def test_c_locale_is_detected_though_python_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    assert Printer(out=io.StringIO()).only_ascii
    monkeypatch.setenv("LC_CTYPE", "de_DE.UTF-8")
    assert not Printer(out=io.StringIO()).only_ascii


def test_ascii_stream_escapes_cells_before_cutting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    file = io.BytesIO()
    out = io.TextIOWrapper(file, encoding="ascii", errors="backslashreplace")
    rows = [["1", "漢字漢字", "$20"], ["2", "t" * 60, "$30"]]
    Printer(out=out).blocks(
        [Table([Column("#"), Column("title", shrinks=True), Column("fee", align_right=True)], rows)]
    )
    out.flush()
    shown = file.getvalue().decode("ascii").split("\n")
    assert shown[3:5] == [r" 1   \u6f22\u5b57\u6...   $20 ", f" 2   {'t' * 15}...   $30 "]
    assert "\\u2026" not in file.getvalue().decode()


def test_own_signs_are_spelled_in_ascii() -> None:
    script = "from popug_cli.cli.main import run; raise SystemExit(run(['task', 'show', '…“é”']))"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert rb'..."\xe9"' in done.stderr


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("rows", "is_paged"), [(3, False), (60, True)])
def test_long_output_is_paged(rows: int, is_paged: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAGER", f"cat > {tmp_path}/paged")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdin", Screen())
    out = Screen()
    Printer(out=out).pages([Table([Column("n")], [[str(n)] for n in range(rows)])])
    shown = (tmp_path / "paged").read_text() if is_paged else out.getvalue()
    assert str(rows - 1) in shown
    assert bool(out.getvalue()) is not is_paged


def test_output_is_printed_if_the_pager_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "/nowhere/less 2> /dev/null")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr("sys.stdin", Screen())
    out = Screen()
    Printer(out=out).pages([Table([Column("n")], [[str(n)] for n in range(60)])])
    assert "59" in out.getvalue()


def test_ctrl_c_is_left_to_the_pager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAGER", f"kill -INT $PPID; cat > {tmp_path}/paged")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr("sys.stdin", Screen())
    Printer(out=Screen()).pages([Table([Column("n")], [[str(n)] for n in range(60)])])
    assert "59" in (tmp_path / "paged").read_text()


@pytest.mark.parametrize(("terminal", "is_styled"), [("", False), ("dumb", False), ("xterm", True)])
def test_terminal_without_styles_gets_none(terminal: str, is_styled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", terminal)
    out = Screen()
    Printer(out=out).blocks(SCREEN)
    assert ("\x1b" in out.getvalue()) is is_styled


def test_sentence_is_wrapped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    sentence = "  a sentence of more than twenty characters"
    screen, pipe = Screen(), io.StringIO()
    Printer(out=screen).blocks([sentence])
    Printer(out=pipe).blocks([sentence])
    assert screen.getvalue() == "  a sentence of more\n  than twenty\n  characters\n"
    assert pipe.getvalue() == f"{sentence}\n"
