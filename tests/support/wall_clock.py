"""A wall clock for processes that a test can shift; durations and sleeps do not change."""

import os
import shutil
import subprocess
import time
from datetime import datetime
from math import ceil
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The wall clock of the processes that have ``environment``; it may be set while they run."""

    def __init__(self, folder: Path, zone: str) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("there is no C compiler to build the shim with that shifts the wall clock")
        self._zone, self._shift = ZoneInfo(zone), folder / "shift"
        library = folder / "wall_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
        self.environment = os.environ | {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(self._shift)}

    def set(self, local: str) -> None:
        """Set the clock to a time in the zone."""
        seconds = datetime.fromisoformat(local).replace(tzinfo=self._zone).timestamp() - time.time()
        temporary = self._shift.with_suffix(".new")
        temporary.write_text(str(ceil(seconds)))  # never before the time: a command starts within 0.2 s
        temporary.replace(self._shift)
