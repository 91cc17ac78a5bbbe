"""Tables at terminals of any width: what does not fit is cut in the columns that allow it, and nowhere else."""

import io

import pytest

from popug_cli.cli.render import Column, Printer, Table

ROWS = [["1", "done", "a title that is rather long for a narrow terminal", "kesha"]]
COLUMNS = [Column("#", right=True), Column("status"), Column("title", flexible=True), Column("assignee")]


def shown(width: int, columns: list[Column], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    Printer(out=out).blocks([Table(columns, ROWS)])
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [45, 60, 79])
def test_a_flexible_column_gives_way(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(width, COLUMNS, monkeypatch)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "kesha" in line)
    assert row.split()[:3] == ["1", "done", "a"]
    assert ("…" in row) == (width < 79)


def test_fixed_columns_are_whole_though_the_terminal_is_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = [Column(column.name) for column in COLUMNS]
    (row,) = (line for line in shown(30, fixed, monkeypatch) if "kesha" in line)
    assert row.split() == " ".join(ROWS[0]).split()
