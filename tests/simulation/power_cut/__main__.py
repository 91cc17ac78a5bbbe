"""``python -m tests.simulation.power_cut``: cut the power at points of a few commands of a scenario.

Synced writes are kept; unsynced writes are dropped, torn at sectors or reordered, unsynced names are lost. For each
such image the database recovers, the doctor passes, and every acknowledged command is there.

python -m tests.simulation.power_cut --images 10000                              the long run
python -m tests.simulation.power_cut --images 500 --bug synchronous-off          it must find damaged databases
"""

import argparse
import sys

from tests.simulation.disk.command import Harness, run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", dest="point", type=int, help="replay: the number of the image")


def _attempt(chosen: argparse.Namespace) -> object:
    from tests.simulation.power_cut.trial import replaying, trials

    return trials if chosen.point is None else replaying(chosen.point)


HARNESS = Harness("power_cut", "Cut the power at every point.", "images", 1_000, _attempt, _options)  # type: ignore[arg-type]

if __name__ == "__main__":
    sys.exit(run(HARNESS))
