"""The same kills of the whole program: ``strace`` sends SIGKILL at the n-th call, without code of the tests inside."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.simulation.disk.fault_shim import NotPossible

CALLS = ("pwrite64", "fdatasync", "ftruncate", "unlink")


def require_strace() -> None:
    """Raise ``NotPossible`` without strace, or if strace may not trace."""
    if shutil.which("strace") is None:
        raise NotPossible("there is no strace to confirm kills of the whole process with")
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(f"strace may not trace here: {done.stderr.strip()}")


def count_calls(line: list[str], environment: dict[str, str], log: Path) -> Counter[str]:
    """Count the system calls of a command line on the files of the database."""
    _run(line, environment, ["-e", f"trace={','.join(CALLS)}", "-o", str(log)]).check_returncode()
    return Counter(re.findall(r"^(\w+)\(", log.read_text(encoding="utf-8"), re.MULTILINE))


def killed(line: list[str], environment: dict[str, str], call: str, at: int) -> subprocess.CompletedProcess[str]:
    """Run a command line that is killed at the n-th call of a kind on the files of the database."""
    return _run(line, environment, ["-o", "/dev/null", "--inject", f"{call}:signal=SIGKILL:when={at}"])


def _run(line: list[str], environment: dict[str, str], options: list[str]) -> subprocess.CompletedProcess[str]:
    database = Path(environment["POPUG_HOME"]) / "popug.db"
    trace = ["strace", "-qq", *options, "-P", str(database), "-P", f"{database}-wal"]
    whole = [*trace, sys.executable, "-m", "popug_cli", *line, "--json"]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)
