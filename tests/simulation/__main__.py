"""``python -m tests.simulation``: worlds from a seed, with every kind of fault.

python -m tests.simulation --operations 1000000     the long run
python -m tests.simulation --postgres               on a PostgreSQL server, which is started for it
python -m tests.simulation --bugs                   which planted bug is found, and how soon
python -m tests.simulation --bug no-inbox           one of them
"""

import sys
from contextlib import nullcontext

from tests.simulation import command
from tests.simulation.bugs import BUGS, DISK_BUGS, planted
from tests.support.postgres.harness import harness_server

SIMULATION = command.Simulation(
    package="tests.simulation",
    description="Simulate companies from a seed.",
    bugs=DISK_BUGS | BUGS,
    hunted=BUGS,
    operations=20_000,
    length=1_000,
    bug_operations=10_000,
    bug_length=400,
    sound="0 broken invariants",
    unsound="a broken invariant",
)


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if an invariant was broken, or a planted bug was not found."""
    parser = command.parser_of(SIMULATION)
    parser.add_argument(
        "--postgres", action="store_true", help="start a PostgreSQL server, and let all worlds be on it"
    )
    chosen = parser.parse_args(arguments)
    if chosen.bugs:
        return command.print_bugs(SIMULATION, chosen.seed)
    with (
        planted(chosen.bug, SIMULATION.bugs) if chosen.bug else nullcontext(),
        harness_server() if chosen.postgres else nullcontext("") as chosen.server_url,
    ):
        return command.run(SIMULATION, chosen)


if __name__ == "__main__":
    sys.exit(main())
