"""The program ``popug`` with the clock of a chaos run: python -m tests.cluster.chaos.program WORDS

``CHAOS_CLOCK`` names the file of the clock, ``CHAOS_JUMP`` that of what this process's clock is off, and
``CHAOS_DATABASE`` is POPUG_DATABASE. A planted bug is in the copy of
``popug_cli`` that PYTHONPATH names first.
"""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from popug_cli.__main__ import main
from popug_cli.bus import records
from popug_cli.kernel.clock import SystemClock
from tests.cluster.chaos.clock import ShiftedClock


def install(clock: ShiftedClock, jump: ShiftedClock) -> None:
    """Let popug use the clock, and shift the stamps of records; ``jump`` is how far this process is off."""
    instant_of = records._instant_of
    time_of_machine = time.time

    def shifted(timestamp_ms: int | None) -> datetime | None:
        stamped = instant_of(timestamp_ms)
        return None if stamped is None else stamped + clock.shift()

    def now(_: object) -> datetime:
        return clock.now() + jump.shift()

    records._instant_of = shifted
    SystemClock.now = now  # type: ignore[assignment]
    time.time = lambda: time_of_machine() + jump.shift() / timedelta(seconds=1)


if __name__ == "__main__":
    if "CHAOS_DATABASE" in os.environ:  # the package tests has removed POPUG_DATABASE
        os.environ["POPUG_DATABASE"] = os.environ["CHAOS_DATABASE"]
    install(ShiftedClock(Path(os.environ["CHAOS_CLOCK"])), ShiftedClock(Path(os.environ["CHAOS_JUMP"])))
    main()
