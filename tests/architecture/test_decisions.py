"""Decision records have one form and one line in the index, and every mention of a record names a file that exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "decisions"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Context", "Options", "Decision", "Consequences"]
HEADING = re.compile(r"# (\d{4}) (.+)\n\n\*\d{4}-\d{2}-\d{2}\*\n")
SECTION = re.compile(r"^\*\*(\w+)\.\*\*", re.MULTILINE)
INDEX_LINE = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", re.MULTILINE)
WITHOUT_RECORD = re.compile(r"^\| (\d{4}(?:, \d{4})*) \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")
MENTION = re.compile(r"decisions/(\d{4}[\w-]*\.md)")
READERS = [ROOT / "README.md", *(ROOT / ".github").rglob("*.md"), *(ROOT / "popug_cli").rglob("*.py")]

every_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(record.name))


def title_of(record: Path) -> tuple[str, str]:
    heading = HEADING.match(record.read_text(encoding="utf-8"))
    assert heading, f"{record.name} does not begin with a number, a title and a date"
    return heading[1], heading[2]


def file_name_of(number: str, title: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower().replace("'", ""))
    return f"{number}-{words.strip('-')}.md"


def numbers_without_record() -> Iterator[str]:
    for numbers in WITHOUT_RECORD.findall(INDEX):
        yield from numbers.split(", ")


@every_record
def test_record_has_the_four_sections_in_order(record: Path) -> None:
    assert SECTION.findall(record.read_text(encoding="utf-8")) == SECTIONS


@every_record
def test_file_name_follows_the_title(record: Path) -> None:
    assert record.name == file_name_of(*title_of(record))


def test_index_lists_each_record_exactly_once() -> None:
    expected = [(record.name[:4], record.name, title_of(record)[1]) for record in RECORDS]
    assert sorted(INDEX_LINE.findall(INDEX)) == expected


def test_each_number_has_a_record_or_a_reason() -> None:
    used = sorted([*(record.name[:4] for record in RECORDS), *numbers_without_record()])
    assert used == [f"{number:04}" for number in range(1, len(used) + 1)]


@pytest.mark.parametrize("page", [*RECORDS, FOLDER / "README.md"], ids=lambda page: str(page.name))
def test_links_of_records_lead_to_files(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (FOLDER / target).exists()] == []


def test_mentions_of_records_name_existing_files() -> None:
    mentions = {name for page in READERS for name in MENTION.findall(page.read_text(encoding="utf-8"))}
    assert mentions
    assert sorted(mentions - {record.name for record in RECORDS}) == []
