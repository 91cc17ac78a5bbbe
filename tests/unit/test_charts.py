"""Charts in plain text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.kernel.charts import bars, sparkline

VALUES = st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([0, 5, 10], ["", "█████", "██████████"]),
        ([1, 80], ["▏", "██████████"]),
        ([-10, 0, 10], ["████│", "    │", "    │█████"]),
        ([-5, -10], ["    ▐████│", "█████████│"]),
    ],
)
def test_bar_is_as_long_as_its_value(values: list[int], drawn: list[str]) -> None:
    assert bars(values, 10, ascii_only=False) == drawn


def test_without_unicode_a_bar_is_made_of_hashes() -> None:
    assert bars([-10, 0, 10], 10, ascii_only=True) == ["####|", "    |", "    |#####"]


@given(values=VALUES, width=st.integers(4, 60), ascii_only=st.booleans())
def test_bars_fit_and_a_greater_value_is_not_shorter(values: list[int], width: int, ascii_only: bool) -> None:
    drawn = bars(values, width, ascii_only=ascii_only)
    assert all(len(bar) <= width for bar in drawn)
    assert all(bar.isascii() for bar in drawn) >= ascii_only
    above = sorted((value, len(bar)) for value, bar in zip(values, drawn, strict=True) if value > 0)
    assert [length for _, length in above] == sorted(length for _, length in above)
    assert all(bool(bar) for value, bar in zip(values, drawn, strict=True) if value)


@pytest.mark.parametrize(
    ("values", "line"), [([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"), ([-7, 0], "▁█"), ([3, 3], "▁▁"), ([], "")]
)
def test_sparkline_goes_from_the_lowest_to_the_highest(values: list[int], line: str) -> None:
    assert sparkline(values, ascii_only=False) == line


@given(values=VALUES)
def test_sparkline_has_a_character_a_value(values: list[int]) -> None:
    assert len(sparkline(values, ascii_only=True)) == len(values)
    assert sparkline(values, ascii_only=True).isascii()
