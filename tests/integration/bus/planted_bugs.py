"""Random runs of a model, and a copy of a module with a planted bug, which such runs must find."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType


def failures(run: Callable[[Random], None], runs: int) -> Iterator[str]:
    """Yield the first sentence that does not hold, for each run of a model in which one does not."""
    for seed in range(runs):
        try:
            run(Random(seed))
        except AssertionError as error:
            yield str(error).partition("\n")[0]


def planted(module: ModuleType, old: str, new: str) -> ModuleType:
    """Return a copy of a module in which a text, which it has once, is replaced."""
    source = Path(str(module.__file__)).read_text()
    assert source.count(old) == 1
    copy = ModuleType(module.__name__)
    exec(compile(source.replace(old, new), "<planted>", "exec"), copy.__dict__)
    return copy
