"""One machine after another, some thousand operations each, each from its own seed."""

import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine.machine import CompanyMachine
from tests.simulation.run import workshop

STEPS_A_COMPANY = 60
CHUNK_OPERATIONS = 3_000
CHUNKS_A_SEED = 1_000_000


@dataclass
class Tally:
    """The work so far; ``failed`` describes the broken rule and its chunk."""

    operations: int = 0
    companies: int = 0
    seconds: float = 0.0
    failed: str = ""
    chunk: int = 0


Watch = Callable[[Tally], None]


def campaign(number: int, operations: int, *, watch: Watch, shrink: bool = True, first_chunk: int = 0) -> Tally:
    """Run companies until that many operations are done, or until one breaks a rule."""
    tally, began = Tally(chunk=first_chunk), time.perf_counter()
    with workshop() as shop:
        while tally.operations < operations and not tally.failed:
            part = min(CHUNK_OPERATIONS, operations - tally.operations)
            machine = _machine(shop, number * CHUNKS_A_SEED + tally.chunk, tally, lambda: watch(tally))
            tally.failed = _failure(machine, part, shrink=shrink)
            tally.seconds = time.perf_counter() - began
            tally.chunk += not tally.failed
    return tally


def _machine(shop: object, chunk_seed: int, tally: Tally, watch: Callable[[], None]) -> type[CompanyMachine]:
    class Counted(CompanyMachine):
        """A company whose steps are counted."""

        def teardown(self) -> None:
            tally.operations += Counted.steps
            tally.companies += 1
            Counted.steps = 0
            watch()
            super().teardown()

    Counted.shop = shop  # type: ignore[assignment]
    return seed(chunk_seed)(Counted)


def _failure(machine: type[CompanyMachine], operations: int, *, shrink: bool) -> str:
    """Return the broken rule with the fewest steps that show it, or an empty text."""
    chosen = settings(
        max_examples=max(1, operations // STEPS_A_COMPANY),
        stateful_step_count=STEPS_A_COMPANY,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.normal,
        report_multiple_bugs=False,
    )
    try:
        with redirect_stdout(StringIO()):
            run_state_machine_as_test(machine, settings=chosen)
    except Exception as error:
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return ""
