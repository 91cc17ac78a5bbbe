"""``python -m tests.mutation``: change the program in one place after the other; some test has to fail.

python -m tests.mutation                               the rules of all packages, and all of billing, bus and identity
python -m tests.mutation bus billing.closing rules     of these only
python -m tests.mutation bus --again                   the survivors of the last run, after tests were added
python -m tests.mutation bus --untried                 the mutants that the last run did not reach
python -m tests.mutation --mutant NAME                 one of them: its change, and whether a test fails now
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from json import JSONDecodeError
from pathlib import Path

from tests.mutation import table
from tests.mutation.equivalent import named
from tests.mutation.results import ALIVE, UNDECIDED, mutants
from tests.mutation.selection import ENOUGH_SECONDS, SECONDS

ROOT = Path(__file__).parents[2]
WORK = ROOT / "mutants"
LOG = WORK / "mutmut.log"
ALL = ("rules", "billing", "bus", "identity")
MEMORY = Path("/dev/shm")
ENVIRONMENT = {  # pytest runs once a mutant: with the plugins of pyproject.toml only, and without collecting garbage
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "-pno:unraisableexception",
}


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a goal is missed or a listed mutant is not equivalent; 2 if mutmut itself failed."""
    chosen = _parser().parse_args(arguments)
    os.chdir(ROOT)
    patterns = [chosen.mutant] if chosen.mutant else [_pattern(module) for module in chosen.modules or ALL]
    if not (chosen.again or chosen.untried or chosen.mutant):
        shutil.rmtree(WORK, ignore_errors=True)
    tried_again = UNDECIDED | ALIVE if chosen.again else UNDECIDED
    goes_on = chosen.again or chosen.untried
    wanted = [mutant.name for mutant in mutants(patterns) if mutant.verdict in tried_again] if goes_on else patterns
    if wanted and (ended := _run_mutmut(wanted, patterns, chosen)):
        print(f"mutmut ended with {ended}; what it said is in {LOG}", file=sys.stderr)
        return 2
    return _report(patterns, shows_all=bool(chosen.mutant))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Let the tests prove themselves.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="within popug_cli, such as bus or billing.days")
    parser.add_argument("--again", action="store_true", help="only what was not noticed in the last run")
    parser.add_argument("--untried", action="store_true", help="only what the last run did not come to")
    parser.add_argument("--mutant", metavar="NAME", help="replay: this mutant of the last run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=ENOUGH_SECONDS, help="of tests for a mutant, the likely first")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    return parser


def _pattern(module: str) -> str:
    return "popug_cli.*.rules.*" if module == "rules" else f"popug_cli.{module}.*"


def _run_mutmut(wanted: list[str], patterns: list[str], chosen: argparse.Namespace) -> int:
    """Let mutmut test the selected mutants, with homes in memory if possible."""
    WORK.mkdir(exist_ok=True)
    _copy_data()
    line = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(chosen.jobs), *wanted]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as homes, LOG.open("w") as log:
        environment = os.environ | ENVIRONMENT | {"TMPDIR": homes, SECONDS: str(chosen.seconds)}
        with subprocess.Popen(line, stdout=log, stderr=log, env=environment) as process:
            while process.poll() is None:
                if chosen.progress:
                    with suppress(JSONDecodeError):  # it is being written
                        _show_progress(patterns)
                time.sleep(1)
    if chosen.progress:
        print(file=sys.stderr)
    return process.returncode


def _copy_data() -> None:
    """Renew the files next to the modules; mutmut copies them once only."""
    for file in Path("popug_cli").rglob("*"):
        if file.is_file() and file.suffix not in {".py", ".pyc"}:
            (WORK / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, WORK / file)


def _show_progress(patterns: list[str]) -> None:
    found = list(mutants(patterns))
    done = [mutant for mutant in found if mutant.verdict not in UNDECIDED]
    filled = 30 * len(done) // max(1, len(found))
    alive = sum(mutant.verdict in ALIVE for mutant in done)
    bar = f"[{'#' * filled}{'.' * (30 - filled)}] {len(done):,} of {len(found):,} mutants, {alive:,} not noticed"
    print(f"\r{bar}\033[K", end="", file=sys.stderr, flush=True)


def _report(patterns: list[str], *, shows_all: bool) -> int:
    found = list(mutants(patterns))
    findings = table.sort_out(found, named())
    for mutant in found if shows_all else findings.survivors:
        was, became = mutant.difference
        print(f"{mutant.verdict}: {mutant.function}\n  was:     {was}\n  becomes: {became}")
        print(f"  replay: python -m tests.mutation --mutant {mutant.name}\n")
    for entry in findings.stale:
        print(f"stale in equivalent.toml: {entry.function}: {entry.was}")
    print("\n".join([table.header(), *map(str, findings.rows)]))
    if findings.undecided:
        print(f"{findings.undecided:,} mutants were not tried; --again tries them")
    return 0 if not findings.stale and not findings.undecided and all(row.reached for row in findings.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
