"""Named randomness: a seed depends on its purpose only, never on the number of earlier draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from popug_cli.kernel.randomness import SEED_BYTES


class NamedChance:
    """Bytes from (seed, purpose, number of draws since the purpose was entered).

    Bytes outside any purpose have no effect on the results (ids of consumers' events, jitter); they only never repeat.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._purpose = ""
        self._drawn = 0
        self._of_no_consequence = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        if not self._purpose:
            return self._of_no_consequence.randbytes(count)
        self._drawn += 1
        key = f"{self._seed}/{self._purpose}/{self._drawn}"
        return blake2b(key.encode(), digest_size=count).digest()

    def new_seed(self, *names: object) -> str:
        """Return the seed of these names, however often it is asked for."""
        return blake2b(_join(self._seed, *names).encode(), digest_size=SEED_BYTES).hexdigest()

    @contextmanager
    def purpose(self, *names: object) -> Iterator[None]:
        """Make bytes for this purpose within the block, from the start of its sequence."""
        before = self._purpose, self._drawn
        self._purpose, self._drawn = _join(*names), 0
        try:
            yield
        finally:
            self._purpose, self._drawn = before


def _join(*names: object) -> str:
    return ":".join(map(str, names))
