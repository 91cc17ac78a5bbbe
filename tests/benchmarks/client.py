"""The everyday commands as whole processes against a resident server, compared with a Python that imports typer.

``python -m tests.benchmarks client``. The server holds a copy of the home of the local commands, and has
answered a few requests before.
"""

from collections.abc import Iterator

from tests.benchmarks.figures import Figure, ratios_in_turn
from tests.benchmarks.homes import copy_of, home_of, token_of
from tests.benchmarks.start_up import PEOPLE, QUICK_ROUNDS, ROUNDS, TASKS, TYPER, WORKER, everyday
from tests.support.running_server import RunningServer

GOAL = 1.35


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure each command, alternating with the import."""
    kept = home_of(tasks=TASKS, people=PEOPLE)
    token = token_of(kept, WORKER)
    with copy_of(kept) as home, RunningServer(home):
        for name, way in everyday(home, token).items():
            ratios = ratios_in_turn(way, TYPER, QUICK_ROUNDS if quick else ROUNDS)
            yield Figure(f"popug {name} over a server / import typer", ratios, GOAL)
