"""The HTML of a mail: a page of this folder with a row that repeats, filled with text that is always escaped."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path

_ROW = re.compile("<!-- each row -->\n(.*)<!-- end -->\n", re.DOTALL)


def page(name: str, rows: Iterable[Mapping[str, str]], **texts: str) -> str:
    """The page of that name with each text, and those of each row, in its place."""
    frame, row = _template(name)
    return frame.format(rows="".join([row.format(**_escaped(each)) for each in rows]), **_escaped(texts))


def _escaped(texts: Mapping[str, str]) -> dict[str, str]:
    return {place: escape(text) for place, text in texts.items()}


@cache
def _template(name: str) -> tuple[str, str]:
    """The page around the rows, and a row."""
    whole = Path(__file__).with_name(name).read_text(encoding="utf-8")
    found = _ROW.search(whole)
    assert found is not None
    return whole[: found.start()] + "{rows}" + whole[found.end() :], found[1]
