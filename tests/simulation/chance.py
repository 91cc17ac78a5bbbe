"""Named randomness: a draw depends on its purpose only, never on the number of earlier draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b


class NamedChance:
    """Bytes from (seed, purpose, number of draws since the purpose was entered).

    Draws outside any purpose have no effect on the results (entry ids, jitter); they only never repeat.
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

    @contextmanager
    def purpose(self, *names: object) -> Iterator[None]:
        """Draw for this purpose within the block, from the start of its sequence."""
        before = self._purpose, self._drawn
        self._purpose, self._drawn = ":".join(map(str, names)), 0
        try:
            yield
        finally:
            self._purpose, self._drawn = before
