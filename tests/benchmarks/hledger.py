"""``popug balance`` against ``hledger balance`` of the same ledger, as whole processes."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure, process, ratios_in_turn
from tests.benchmarks.homes import home_of, token_of
from tests.benchmarks.startup import POPUG

ENTRIES, QUICK_ENTRIES = 100_000, 1_000


def figures(*, quick: bool) -> Iterator[Figure]:
    """Faster is below one."""
    entries = QUICK_ENTRIES if quick else ENTRIES
    home = home_of(entries=entries)
    who = {"POPUG_TOKEN": token_of(home), "POPUG_HOME": str(home), "POPUG_SERVER": ""}
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "popug.journal"
        export = [POPUG, "ledger", "export", "--format", "hledger", "--out", str(journal)]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL, env=os.environ | who)
        ours = process(POPUG, "balance", "p00007", environment=who)
        theirs = process("hledger", "-f", str(journal), "balance", "p00007")
        yield Figure(f"balance / hledger balance, {entries:,} entries", ratios_in_turn(ours, theirs, 5), 1.0)
