"""``python -m tests.simulation.signals``: SIGINT, SIGTERM, SIGHUP and SIGPIPE at random moments of every command.

A moment is the n-th call of a function, so that it can be repeated. After each: no traceback, the doctor, the same
command again, the doctor, and the state equals that of an undisturbed run; nothing temporary is left in the home.

python -m tests.simulation.signals --moments 10000     the long run
python -m tests.simulation.signals --only backup       of one command
"""

import argparse
import sys

from tests.simulation.disk.command import Harness, run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--moment", type=int, help="replay: the moment of that command, from 1")
    parser.add_argument("--signal", default="SIGINT", help="replay: the signal")


def _attempt(chosen: argparse.Namespace) -> object:
    from tests.simulation.signals.trial import replaying, trials

    return trials if chosen.moment is None else replaying(chosen.moment, chosen.signal)


HARNESS = Harness("signals", "Signal the program at any moment.", "moments", 1_000, _attempt, _options)  # type: ignore[arg-type]

if __name__ == "__main__":
    sys.exit(run(HARNESS))
