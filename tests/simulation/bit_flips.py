"""Single bits flipped in the database's file: ``python -m tests.simulation.bit_flips [FLIPS] [SEED]``.

Each flip is made in a copy of a company with a past. It is *noticed* where the doctor or opening the
file says so, *harmless* where ledger, prices and log read as before, and otherwise *silent*: there may be none.
"""

import random
import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.app import Local
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth, VerifyLedger
from tests.integration.ledger_support import company_with_a_past
from tests.integration.support import InProcess, SeededChance

PRECIOUS = (
    "SELECT * FROM billing_entries ORDER BY position",
    "SELECT task_id, fee_cents, reward_cents FROM billing_tasks ORDER BY task_id",
    "SELECT sequence, envelope FROM bus_log ORDER BY sequence",
    "SELECT * FROM billing_days ORDER BY business_date",
)


def run(flips: int, seed: int) -> Counter[str]:
    """How many flips were noticed, harmless or silent; each silent one is printed."""
    chance, outcomes = random.Random(seed), Counter[str]()
    with TemporaryDirectory() as folder:
        company = company_with_a_past(Path(folder) / "home")
        company.place.close()
        with closing(sqlite3.connect(company.root / "popug.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = (company.root / "popug.db").read_bytes()
        before = _precious(company.root / "popug.db")
        for _ in range(flips):
            place = chance.randrange(len(content) * 8)
            outcome = _flip(company, content, place, before, Path(folder) / "copy")
            outcomes[outcome] += 1
            if outcome == "silent":
                sys.stdout.write(f"silent: bit {place % 8} of byte {place // 8}\n")
    return outcomes


def _flip(company: InProcess, content: bytes, place: int, before: object, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    Home(folder).make()
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    (folder / "popug.db").write_bytes(changed)
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


if __name__ == "__main__":
    asked = [int(each) for each in sys.argv[1:]]
    found = run(*(asked + [1500, 1][len(asked) :]))
    sys.stdout.write(f"{dict(found)}\n")
    sys.exit(1 if found["silent"] else 0)
