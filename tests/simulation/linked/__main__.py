"""``python -m tests.simulation.linked``: five linked homes from a seed, with every kind of fault.

python -m tests.simulation.linked --operations 1000000    the long run
python -m tests.simulation.linked --bugs                  which planted bug is found, and how soon
python -m tests.simulation.linked --bug offset-first      one of them
"""

import sys
from contextlib import nullcontext

from tests.simulation import command
from tests.simulation.bugs import planted
from tests.simulation.linked.bugs import LINKED_BUGS

SIMULATION = command.Simulation(
    package="tests.simulation.linked",
    description="Simulate five linked services from a seed.",
    bugs=LINKED_BUGS,
    hunted=LINKED_BUGS,
    operations=2_000,
    length=500,
    bug_operations=40_000,
    bug_length=250,
    sound="everything holds",
    unsound="something does not hold",
)
ONLY_ON_SERVERS = (
    "positions that a database sequence gives",
    "an asynchronous commit with a failover",
    "a claim that only reads",
    "a stopped service that keeps the write lock",
)


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if something did not hold, or a planted bug was not found."""
    chosen = command.parser_of(SIMULATION).parse_args(arguments)
    if chosen.bugs:
        exit_status = command.print_bugs(SIMULATION, chosen.seed)
        print("Only servers can show: " + "; ".join(ONLY_ON_SERVERS) + ".")  # noqa: T201 - it is a program that prints
        return exit_status
    with planted(chosen.bug, SIMULATION.bugs) if chosen.bug else nullcontext():
        return command.run(SIMULATION, chosen)


if __name__ == "__main__":
    sys.exit(main())
