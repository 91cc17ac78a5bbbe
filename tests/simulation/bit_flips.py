"""``python -m tests.simulation.bit_flips``: flip single bits in the used pages of the database.

python -m tests.simulation.bit_flips --flips 10000 --seed 21     the long run
python -m tests.simulation.bit_flips --seed 21 --only 512        one flip of it

Each flip is made in a copy of a company with some history. It is *noticed* if the doctor or opening the file reports
it, *harmless* if ledger, prices and log read as before, and otherwise *silent*; no flip may be silent. Each kind of
page (the tables and the indexes of each module, the schema) gets flips in proportion to its number of pages.
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth, VerifyLedger
from tests.simulation.command import bar
from tests.support.company import InProcess, SeededChance
from tests.support.ledger_company import company_with_a_past

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
    """A page in use and its kind."""

    number: int
    kind: str


def run(flips: Sequence[int], seed: int, watch: Callable[[int], None] = lambda done: None) -> Outcomes:
    """Return how many flips of each kind of page were noticed, harmless or silent; print each silent one.

    ``flips`` are numbers; the seed and a number decide the position of a flip.
    """
    outcomes = Outcomes()
    with TemporaryDirectory() as folder:
        company = company_with_a_past(Path(folder) / "home")
        company.backend.close()
        database = company.root / "popug.db"
        page_bytes, pages = pages_in_use(database)
        content, before = database.read_bytes(), _precious(database)
        for done, number in enumerate(flips):
            watch(done)
            chance = random.Random(f"{seed}/{number}")
            page = chance.choice(pages)
            place = (page.number - 1) * page_bytes * 8 + chance.randrange(page_bytes * 8)
            outcome = _flip(company, content, place, before, Path(folder) / "copy")
            outcomes[page.kind, outcome] += 1
            if outcome == "silent":
                print(f"silent: bit {place % 8} of byte {place // 8}, page {page.number}, {page.kind}")
                print(f"replay: python -m tests.simulation.bit_flips --seed {seed} --only {number}")
    return outcomes


def pages_in_use(database: Path) -> tuple[int, list[Page]]:
    """Return the page size in bytes and all pages of tables and indexes; free pages are left out."""
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
    local = LocalBackend(Home(folder), clock=company.clock, randomness=SeededChance())
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
    """Return the outcomes by kind of page."""
    kinds = sorted({kind for kind, _ in outcomes})
    lines = [f"{'pages of':<24}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES)]
    for kind in [*kinds, "all"]:
        counts = [
            sum(n for (each, found), n in outcomes.items() if found == outcome and kind in {each, "all"})
            for outcome in OUTCOMES
        ]
        lines.append(f"{kind:<24}" + "".join(f"{count:>10}" for count in counts))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a flip was silent."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.bit_flips", description="Flip single bits.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flips", type=int, default=1500, help="how many bits, one at a time")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="replay: this one of them")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    chosen = parser.parse_args(arguments)
    flips = range(chosen.flips) if chosen.only is None else [chosen.only]

    def watch(done: int) -> None:
        if chosen.progress:
            print(f"\r{bar(done, len(flips))} of {len(flips):,}", end="", file=sys.stderr)

    found = run(flips, chosen.seed, watch)
    if chosen.progress:
        print(file=sys.stderr)
    print(f"{len(flips)} flips, seed {chosen.seed}\n{table(found)}", end="")
    return int(any(outcome == "silent" for _, outcome in found))


if __name__ == "__main__":
    sys.exit(main())
