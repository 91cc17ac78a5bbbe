"""``python -m tests.simulation.failover``: kill the primary of a PostgreSQL company under load, again and again.

python -m tests.simulation.failover --rounds 20 --seed 1     20 rounds of each kind, as a table
python -m tests.simulation.failover --kind alone             one kind only

The seed decides when the servers are killed; the machine decides what the writers do at that moment.
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import sys

from tests.simulation.failover.rounds import KINDS, Outcome, run

COLUMNS = "{:<10} {:>5} {:>6} {:>6} {:>5} {:>8} {:>9} {:>9}  {}"


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a command was lost or done twice, or a promise about time was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.failover", description="Kill the primary of a company under load."
    )
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=sorted(KINDS), help="this kind only")
    chosen = parser.parse_args(arguments)
    print(COLUMNS.format("kind", "seed", "acked", "tasks", "lost", "gap (s)", "write (s)", "in doubt", "errors"))
    outcomes = []
    for seed in range(chosen.seed, chosen.seed + chosen.rounds):
        for kind in [chosen.kind] if chosen.kind else KINDS:
            outcomes.append(run(kind, seed))
            _show(outcomes[-1], seed)
    return int(any(outcome.faults for outcome in outcomes))


def _show(outcome: Outcome, seed: int) -> None:
    tally = outcome.tally
    lost = sum(fault.startswith("lost: ") for fault in outcome.faults)
    errors = ", ".join(f"{code} {count}" for code, count in sorted(tally.errors.items())) or "none"
    gap, seconds = f"{tally.longest_gap_seconds():.2f}", f"{outcome.seconds_to_write:.2f}"
    decided = f"{tally.decided[True]} + {tally.decided[False]}"  # done and not done
    counts = (len(tally.acknowledged), outcome.tasks, lost)
    print(COLUMNS.format(outcome.kind, seed, *counts, gap, seconds, decided, errors))
    for fault in outcome.faults:
        print(f"  FAULT {fault}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
