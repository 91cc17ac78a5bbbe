"""``python -m tests.simulation.fault``: at each point of a scenario the disk fails once, stays full, or tears.

An unacknowledged change is not there, the exit code is 8, the sentence names the cause, and commands work again once
the disk does.

python -m tests.simulation.fault --points 10000     the long run
"""

import argparse
import sys

from tests.simulation.disk.command import Harness, run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--point", type=int, help="replay: the point of that command, from 1")
    parser.add_argument(
        "--fault", choices=("error", "full", "torn"), default="error", help="replay: what goes wrong there"
    )


def _attempt(chosen: argparse.Namespace) -> object:
    from tests.simulation.fault.trial import replaying, trials

    return trials if chosen.point is None else replaying(chosen.point, chosen.fault)


HARNESS = Harness("fault", "Let the disk fail at every point.", "points", 1_000, _attempt, _options)  # type: ignore[arg-type]

if __name__ == "__main__":
    sys.exit(run(HARNESS))
