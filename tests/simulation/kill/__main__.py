"""``python -m tests.simulation.kill``: kill at every write, sync, truncate, unlink and rename of a scenario.

After each: the doctor, the same command again, the doctor, and the state equals that of an undisturbed run.

python -m tests.simulation.kill --points 10000     the long run
python -m tests.simulation.kill --points 200 --bug no-outbox
"""

import argparse
import sys

from tests.simulation.disk.command import Harness, run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--point", type=int, help="replay: the point of that command, from 1")
    parser.add_argument("--amidst", action="store_true", help="replay: in the middle of it instead of before it")


def _attempt(chosen: argparse.Namespace) -> object:
    from tests.simulation.kill.trial import replaying, trials

    return trials if chosen.point is None else replaying(chosen.point, amidst=chosen.amidst)


HARNESS = Harness("kill", "Kill the program at every point.", "points", 1_000, _attempt, _options)  # type: ignore[arg-type]

if __name__ == "__main__":
    sys.exit(run(HARNESS))
