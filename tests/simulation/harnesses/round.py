"""A few trials of each disk harness, one after the other in one process on one short scenario."""

import random
from itertools import islice

from tests.simulation.disk.campaign import Task, Try, workshop
from tests.simulation.disk.scenario import build
from tests.simulation.fault.trial import trials as fault_trials
from tests.simulation.kill.trial import trials as kill_trials
from tests.simulation.power_cut.trial import trials as power_cut_trials
from tests.simulation.signals.trial import trials as signals_trials

TRIALS_A_STEP = 10
MORNING_COMMANDS = 14
ATTEMPTS: dict[str, Try] = {
    "kill": kill_trials,
    "fault": fault_trials,
    "power_cut": power_cut_trials,
    "signals": signals_trials,
}


def play_round(seed: int, trials: int) -> str:
    """Return the broken rule with the command that replays it, or an empty text."""
    with workshop() as shop:
        day = build(f"{seed}:0", shop / "day", length=MORNING_COMMANDS)
        numbers = [step.number for step in day.steps]
        random.Random(day.seed).shuffle(numbers)
        for name, attempt in ATTEMPTS.items():
            tasks = [Task(day, n, f"{day.seed}/{n}", TRIALS_A_STEP, shop / name) for n in numbers]
            findings = (finding for task in tasks for finding in attempt(task))
            for finding in islice(findings, trials):
                if finding.violation:
                    replay = f"python -m tests.simulation.{name} --seed {seed} --day 0 {finding.place}"
                    return f"{finding.violation}\nreplay: {replay}"
    return ""
