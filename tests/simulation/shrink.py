"""Fewer operations that still break the same invariant (delta debugging; Zeller and Hildebrandt, 2002)."""

import time
from collections.abc import Callable, Sequence

Fails = Callable[[Sequence[int]], bool]


def shrink(places: Sequence[int], fails: Fails, *, seconds: float) -> list[int]:
    """Return a short part of the places for which ``fails`` is true, within about that time.

    It removes chunks; after a round in which no chunk could be removed, the chunks are half as large.
    """
    deadline = time.monotonic() + seconds
    kept = list(places)
    size = max(1, len(kept) // 2)
    while time.monotonic() < deadline:
        before = len(kept)
        start = 0
        while start < len(kept) and time.monotonic() < deadline:
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept = without
            else:
                start += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
