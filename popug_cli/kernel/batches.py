"""Split an iterable into chunks."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, in lists of at most ``size``; like ``itertools.batched`` of Python 3.12."""
    iterator = iter(items)
    while batch := [*islice(iterator, size)]:
        yield batch
