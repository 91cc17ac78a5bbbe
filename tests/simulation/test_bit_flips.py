"""A flipped bit in a used page is noticed, or no important value reads differently.

A short run of ``python -m tests.simulation.bit_flips``, which takes 1,500.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.simulation.bit_flips import pages_in_use, run
from tests.support.ledger_company import company_with_a_past

FLIPS = 30


@pytest.fixture(scope="module", autouse=True)
def _dbstat() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute("SELECT * FROM dbstat")
        except sqlite3.OperationalError:
            pytest.skip("this SQLite was built without dbstat")


def test_no_flip_is_silent() -> None:
    outcomes = run(range(FLIPS), seed=11)
    assert sum(outcomes.values()) == FLIPS
    assert {outcome for _, outcome in outcomes} == {"noticed", "harmless"}


def test_every_page_in_use_may_be_chosen_and_no_free_one(tmp_path: Path) -> None:
    company = company_with_a_past(tmp_path / "home")
    company.backend.close()
    _, pages = pages_in_use(company.root / "popug.db")
    kinds = {page.kind for page in pages}
    assert {"billing, table", "billing, index", "bus, table", "bus, index", "the schema, table"} <= kinds
    with closing(sqlite3.connect(company.root / "popug.db")) as database:
        ((count,), (free,)) = (
            database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
        )
    assert len({page.number for page in pages}) == count - free
