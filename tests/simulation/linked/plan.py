"""The operations of a linked world, drawn from its seed alone."""

import random

from tests.simulation.plan import Operation, Plan

COMMANDS = {
    "add": 130,
    "complete_own": 260,
    "complete_any": 30,
    "shuffle": 12,
    "hire": 14,
    "import_tasks": 8,
    "set_role": 16,
    "flip_active": 18,
    "set_email": 25,
    "correct": 40,
    "close": 24,
    "send_mail": 10,
}
CLOCK = {"clock_forward": 90}
CHAOS = {
    "relay": 200,
    "replicate": 320,
    "two_relays": 20,
    "two_replicators": 20,
    "relay_dies": 25,
    "relay_sleeps": 20,
    "wake": 25,
    "repeat": 15,
    "lose": 10,
    "mangle": 4,
    "republish": 8,
    "kill_soon": 60,
    "restart": 8,
    "catch_up": 30,
    "back_up": 20,
    "poison": 8,
    "heal": 10,
    "upgrade_publisher": 20,
    "upgrade_receivers": 1,
}
DISASTERS = {"restore": 4, "fail_over": 10, "second_database": 6}
FACTORS = (0.3, 1.0, 1.0, 2.0)


def plan(seed: str, length: int) -> Plan:
    """Return the plan of a seed; four of ten worlds have disasters, after which all services are restored."""
    chance = random.Random(seed)
    wild = chance.random() < 0.4
    usual = {**COMMANDS, **CLOCK, **CHAOS, **(DISASTERS if wild else {})}
    weights = {kind: weight * chance.choice(FACTORS) for kind, weight in usual.items()}
    weights["lose"] *= chance.random() < 0.5
    kinds = chance.choices(list(weights), list(weights.values()), k=length)
    number = chance.getrandbits
    operations = tuple(Operation(n, kind, number(30), number(30), number(30)) for n, kind in enumerate(kinds))
    return Plan(seed, wild, 0.0, operations)
