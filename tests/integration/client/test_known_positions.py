"""The positions that a client keeps and sends."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.cli.state.positions_file import MAX_COMPANIES, PositionsFile
from popug_cli.kernel.positions import MAX_SOURCES, KnownPositions, Position, merge, parse, text_of

POSITIONS = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=8),
    st.builds(Position, st.integers(0, 10**18 - 1), st.text("0123456789abcdef", min_size=1, max_size=8)),
    max_size=MAX_SOURCES,
)


@given(POSITIONS)
def test_text_is_read_back(positions: dict[str, Position]) -> None:
    assert parse(text_of(positions)) == positions


@given(st.text(max_size=2_000))
def test_any_text_is_accepted(text: str) -> None:
    assert len(parse(text)) <= MAX_SOURCES


@pytest.mark.parametrize(
    "text", ["", "company", "company=-1.aa", "company=1", "company=1.xyz", "Company=1.aa", "=1.aa"]
)
def test_what_is_not_valid_is_ignored(text: str) -> None:
    assert parse(f"{text}, database=7.aa") == {"database": Position(7, "aa")}


def test_greatest_number_of_the_newest_log_is_kept() -> None:
    known = KnownPositions({"company": Position(5, "aa"), "tasks": Position(1, "aa")})
    known.keep({"company": Position(4, "aa")})
    assert known.read()["company"] == Position(5, "aa")
    known.keep({"company": Position(2, "bb")})
    assert known.read() == {"company": Position(2, "bb"), "tasks": Position(1, "aa")}


def test_number_of_sources_is_limited() -> None:
    many = {f"{chr(97 + i)}": Position(i, "aa") for i in range(MAX_SOURCES + 5)}
    assert len(merge({}, many)) == MAX_SOURCES


def test_file_keeps_the_companies_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    for number in range(MAX_COMPANIES + 3):
        PositionsFile(f"https://server-{number}").keep({"company": Position(number, "aa")})
    assert PositionsFile("https://server-0").read() == {}
    assert PositionsFile("https://server-3").read() == {"company": Position(3, "aa")}
    PositionsFile("https://server-3").keep({"company": Position(1, "aa")})
    assert PositionsFile("https://server-3").read() == {"company": Position(3, "aa")}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"https://a": 5}', '{"https://a": "company=x"}', "\x00"])
def test_damaged_file_counts_as_empty(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    (tmp_path / "session.positions.json").write_text(content)
    file = PositionsFile("https://a")
    assert file.read() == {}
    file.keep({"company": Position(1, "aa")})
    assert PositionsFile("https://a").read() == {"company": Position(1, "aa")}


def test_file_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    (tmp_path / "session.positions.json").mkdir()
    file = PositionsFile("https://a")
    file.keep({"company": Position(1, "aa")})
    assert file.read() == {"company": Position(1, "aa")}
