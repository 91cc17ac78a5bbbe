"""The operations of a world, drawn from its seed alone."""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

COMMANDS = {
    "add": 200,
    "complete_own": 170,
    "complete_any": 50,
    "shuffle": 14,
    "hire": 16,
    "import_tasks": 8,
    "import_people": 3,
    "set_role": 14,
    "flip_active": 16,
    "set_email": 10,
    "close_day": 12,
}
CLOCK = {"clock_forward": 90, "clock_back": 10}
DISTURBANCES = {
    "redeliver": 60,
    "crash_soon": 50,
    "outage": 8,
    "poison": 20,
    "heal": 14,
    "restart": 8,
    "batch_size": 40,
    "mix": 30,
    "catch_up": 60,
    "retry": 8,
}
ONLY_WILD = {"drop": 30}


class Operation(NamedTuple):
    """A command or a disturbance; its numbers decide the details, given the present state.

    ``place`` is its position in the whole plan; it does not change if others are left out.
    """

    place: int
    kind: str
    a: int
    b: int
    c: int


class Plan(NamedTuple):
    """The operations of a world, how often its commands are interrupted, and whether it is wild.

    The disturbances of a ``wild`` world change its results (a shuffle fails, a fee is dated later), so that only its
    invariants count. Any other world ends like its undisturbed twin.
    """

    seed: str
    wild: bool
    cut_short: float
    operations: tuple[Operation, ...]


def plan(seed: str, length: int) -> Plan:
    """Return the plan of a seed."""
    chance = random.Random(seed)
    wild = chance.random() < 0.25
    cut_short = chance.choice((0.0, 0.5, 0.9, 0.97))
    usual = {**COMMANDS, **CLOCK, **DISTURBANCES, **(ONLY_WILD if wild else {})}
    weights = {kind: weight * chance.choice((0.3, 1.0, 1.0, 2.0)) for kind, weight in usual.items()}
    kinds = chance.choices(list(weights), list(weights.values()), k=length)
    number = chance.getrandbits
    return Plan(
        seed,
        wild,
        cut_short,
        tuple(Operation(n, kind, number(30), number(30), number(30)) for n, kind in enumerate(kinds)),
    )


def only(whole: Plan, places: Iterable[int]) -> Plan:
    """Return the plan with those operations only."""
    kept = set(places)
    return whole._replace(operations=tuple(each for each in whole.operations if each.place in kept))


def spell(places: Sequence[int]) -> str:
    """Places as ranges: ``1-3,7``."""
    ranges: list[list[int]] = []
    for place in sorted(places):
        if ranges and place == ranges[-1][1] + 1:
            ranges[-1][1] = place
        else:
            ranges.append([place, place])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def read_places(spelled: str) -> list[int]:
    """Return the places that ``spell`` wrote."""
    found: list[int] = []
    for part in spelled.split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found
