"""Randomness as a port: identifiers, seeds and jitter, so that a simulation can control them."""

import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import accumulate, chain, count, repeat
from typing import Literal, Protocol


class RandomSource(Protocol):
    """A source of random bytes; the core uses no other."""

    def bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        ...


class SystemRandomSource:
    """The operating system's source of randomness."""

    def bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        return secrets.token_bytes(count)


SEED_BYTES = 16
LOW_BITS = 48  # of a UUID; a random step changes the higher bits only if these overflow
LOW_BITS_END = 2**LOW_BITS
FIRST_BYTES, STEPS_PER_READ = 10, 64


DrawPurpose = Literal["price", "new_tasks", "shuffle", "reassignment"]


class Draws(Protocol):
    """The only source of seeds; a simulation derives each seed from the purpose and the subject of its draw."""

    def new_seed(self, purpose: DrawPurpose, subject: str) -> str:
        """Return the seed of a draw: ``SEED_BYTES`` bytes in hexadecimal.

        ``subject`` is the task id of a price, the first number of new tasks, the id of a shuffle, or the id of the
        event that caused a reassignment.
        """
        ...


class RandomDraws:
    """Seeds of random bytes, independent of the purpose and the subject of the draw."""

    def __init__(self, randomness: RandomSource) -> None:
        self._randomness = randomness

    def new_seed(self, purpose: DrawPurpose, subject: str) -> str:
        """Return ``SEED_BYTES`` random bytes in hexadecimal."""
        return self._randomness.bytes(SEED_BYTES).hex()


def random_unit(randomness: RandomSource) -> float:
    """Return a number in [0, 1), for jitter only."""
    return int.from_bytes(randomness.bytes(4), "big") / 2**32


def uuid7(now: datetime, randomness: RandomSource) -> str:
    """Return a UUID of version 7 (RFC 9562, section 5.7): milliseconds since 1970, then random bits."""
    return next(monotonic_uuid7s(now, randomness))


def monotonic_uuid7s(now: datetime, randomness: RandomSource) -> Iterator[str]:
    """Return an endless iterator of increasing UUIDs of version 7 for one instant (RFC 9562, section 6.2, method 2).

    The first has 74 random bits; each further one is higher by a random step, so that an index grows at its end only.
    The iterator is not a generator: Python resumes a generator to close it, and would lose a signal that arrives then.
    """
    timestamp = f"{max(0, int(now.timestamp() * 1000)) & (2**48 - 1):012x}"

    @lru_cache(maxsize=1)
    def prefix(high: int) -> str:
        return f"{timestamp[:8]}-{timestamp[8:]}-7{high >> 14 & 0xFFF:03x}-{high & 0x3FFF | 0x8000:04x}-"

    def uuid(bits: int, number: int) -> str:
        bits += number
        return prefix(bits >> LOW_BITS) + hex(LOW_BITS_END | bits & LOW_BITS_END - 1)[3:]

    def read(size: int) -> Iterable[int]:
        random_bytes = randomness.bytes(size)
        return reversed(random_bytes) if size == STEPS_PER_READ else (int.from_bytes(random_bytes, "big"),)

    numbers = chain.from_iterable(map(read, chain((FIRST_BYTES,), repeat(STEPS_PER_READ))))
    return map(uuid, accumulate(numbers), count())
