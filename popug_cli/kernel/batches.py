"""Many things, some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in their order, at most ``size`` at once; what ``itertools.batched`` of Python 3.12 does."""
    iterator = iter(items)
    while batch := [*islice(iterator, size)]:
        yield batch
