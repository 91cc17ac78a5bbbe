"""The shim between the program and its disk: compiled, preloaded into a process, armed through ctypes."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from enum import IntEnum
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("fault_shim.c")
MARK = "POPUG_DISK_SHIM"
NO_JOURNAL = -1


class Mode(IntEnum):
    """The effect at the chosen point; the order is that of ``enum mode`` in the source."""

    COUNT = 0
    KILL_BEFORE = 1
    KILL_AMIDST = 2
    FAIL_ONCE = 3
    FAIL_FROM = 4
    FAIL_TORN = 5


class NotPossible(RuntimeError):
    """The harness cannot run on this machine; the message gives the reason."""


def run_preloaded(module: str, arguments: list[str]) -> int:
    """Run ``python -m module`` under the shim. Return its exit code. Raise ``NotPossible`` without a compiler."""
    with tempfile.TemporaryDirectory(prefix="popug-shim-") as folder:
        library = compile_shim(Path(folder))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "POPUG_"))}
        environment |= {"LD_PRELOAD": str(library), MARK: str(library)}
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal interrupts both processes; the child reports it
                continue


def is_preloaded() -> bool:
    """Return whether this process runs under the shim."""
    return MARK in os.environ


def compile_shim(folder: Path) -> Path:
    """Return the shared library, compiled with ``cc``."""
    if not sys.platform.startswith("linux"):
        raise NotPossible("the disk harnesses need Linux")
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotPossible("the disk harnesses need a C compiler, and there is no cc")
    library = folder / "shim.so"
    line = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(f"the shim cannot be compiled here: {done.stderr.strip()[-300:]}")
    return library


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ[MARK])
    library.disk_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int)
    library.disk_counted.restype = ctypes.c_long
    library.disk_what.restype = ctypes.c_char_p
    return library


def arm(root: Path, mode: Mode, point: int = 0, error: int = 0, journal: int = NO_JOURNAL) -> None:
    """Count operations under ``root`` from now on; apply the mode at the given point (from 1)."""
    _library().disk_arm(os.fsencode(root), int(mode), point, error, journal)


def forget_chance() -> None:
    """Let SQLite draw its salts from their source again."""
    import _sqlite3

    ctypes.CDLL(_sqlite3.__file__).sqlite3_randomness(0, None)


def disarm() -> tuple[int, str]:
    """Stop the effects. Return how many points there were, and the chosen one."""
    _library().disk_disarm()
    return int(_library().disk_counted()), os.fsdecode(_library().disk_what()).replace(" /", " ")
