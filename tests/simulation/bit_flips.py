"""Single bits flipped in the database's pages that are in use: ``python -m tests.simulation.bit_flips [FLIPS] [SEED]``.

Each flip is made in a copy of a company with a past. It is *noticed* where the doctor or opening the
file says so, *harmless* where ledger, prices and log read as before, and otherwise *silent*: there may be none. A flip
falls on each kind of page (the tables and the indexes of each module, the schema) as often as that has pages.
"""

import random
import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from popug_cli.app import Local
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth, VerifyLedger
from tests.integration.ledger_support import company_with_a_past
from tests.integration.support import InProcess, SeededChance

PRECIOUS = (
    "SELECT * FROM billing_entries ORDER BY position",
    "SELECT task_id, fee_cents, reward_cents FROM billing_tasks ORDER BY task_id",
    "SELECT number, fee_cents, reward_cents FROM tasks_tasks ORDER BY number",
    "SELECT sequence, envelope, type FROM bus_log ORDER BY sequence",
    "SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence",
    "SELECT * FROM billing_accounts ORDER BY account_id",
    "SELECT * FROM billing_account_days ORDER BY employee_id, business_date",
    "SELECT * FROM billing_days ORDER BY business_date",
)
OUTCOMES = ("noticed", "harmless", "silent")
PAGES = """
    SELECT page.pageno, page.name, coalesce(about.type, 'table') FROM dbstat page
    LEFT JOIN sqlite_schema about ON about.name = page.name ORDER BY page.pageno
"""
Outcomes = Counter[tuple[str, str]]


class Page(NamedTuple):
    """A page in use, and what kind of page it is."""

    number: int
    kind: str


def run(flips: int, seed: int) -> Outcomes:
    """How many flips of each kind of page were noticed, harmless or silent; each silent one is printed."""
    chance, outcomes = random.Random(seed), Outcomes()
    with TemporaryDirectory() as folder:
        company = company_with_a_past(Path(folder) / "home")
        company.place.close()
        database = company.root / "popug.db"
        page_bytes, pages = pages_in_use(database)
        content, before = database.read_bytes(), _precious(database)
        for _ in range(flips):
            page = chance.choice(pages)
            place = (page.number - 1) * page_bytes * 8 + chance.randrange(page_bytes * 8)
            outcome = _flip(company, content, place, before, Path(folder) / "copy")
            outcomes[page.kind, outcome] += 1
            if outcome == "silent":
                sys.stdout.write(f"silent: bit {place % 8} of byte {place // 8}, page {page.number}, {page.kind}\n")
    return outcomes


def pages_in_use(database: Path) -> tuple[int, list[Page]]:
    """The size of a page in bytes and all pages of tables and indexes; free ones are left out."""
    with closing(sqlite3.connect(database)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_bytes,) = file.execute("PRAGMA page_size").fetchone()
        pages = [Page(number, _kind(name, what)) for number, name, what in file.execute(PAGES)]
    assert len(pages) > 50
    return page_bytes, pages


def _kind(name: str, what: str) -> str:
    module = "the schema" if name == "sqlite_schema" else name.removeprefix("sqlite_autoindex_").partition("_")[0]
    return f"{module}, {what}"


def _flip(company: InProcess, content: bytes, place: int, before: object, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    Home(folder).make()
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    (folder / "popug.db").write_bytes(changed)
    shutil.copytree(company.root / "keys", folder / "keys", dirs_exist_ok=True)
    try:
        same = _precious(folder / "popug.db") == before
    except (sqlite3.Error, UnicodeDecodeError):
        same = False
    if _is_noticed(company, folder):
        return "noticed"
    return "harmless" if same else "silent"


def _is_noticed(company: InProcess, folder: Path) -> bool:
    local = Local(Home(folder), clock=company.clock, chance=SeededChance())
    try:
        return not (local.perform(VerifyLedger()).ok and local.perform(CheckHealth()).ok)
    except PopugError:
        return True
    finally:
        local.close()


def _precious(database: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as file:
        return [file.execute(statement).fetchall() for statement in PRECIOUS]


def table(outcomes: Outcomes) -> str:
    """The outcomes by kind of page."""
    kinds = sorted({kind for kind, _ in outcomes})
    lines = [f"{'pages of':<24}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES)]
    for kind in [*kinds, "all"]:
        counts = [
            sum(n for (each, found), n in outcomes.items() if found == outcome and kind in {each, "all"})
            for outcome in OUTCOMES
        ]
        lines.append(f"{kind:<24}" + "".join(f"{count:>10}" for count in counts))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asked = [int(each) for each in sys.argv[1:]]
    flips, seed = asked + [1500, 1][len(asked) :]
    found = run(flips, seed)
    sys.stdout.write(f"{flips} flips, seed {seed}\n{table(found)}")
    sys.exit(1 if any(outcome == "silent" for _, outcome in found) else 0)
