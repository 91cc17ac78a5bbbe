"""Chance as a port: identifiers, seeds and jitter, so that a simulation can decide them."""

import secrets
from datetime import datetime
from typing import Protocol


class Chance(Protocol):
    """The one source of randomness."""

    def bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes."""
        ...


class SystemChance:
    """The operating system's source of randomness."""

    def bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes."""
        return secrets.token_bytes(count)


SEED_BYTES = 16
SHAPE = "%s%03x-%04x-%012x"
STEPS_AT_ONCE = 64


def new_seed(chance: Chance) -> str:
    """A fresh seed for a draw: 128 bits in hexadecimal."""
    return chance.bytes(SEED_BYTES).hex()


def unit_interval(chance: Chance) -> float:
    """A number in [0, 1), for jitter only."""
    return int.from_bytes(chance.bytes(4), "big") / 2**32


def uuid7(now: datetime, chance: Chance) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): milliseconds since 1970, then random bits."""
    return Ids(now, chance).next()


class Ids:
    """UUIDs of version 7 of one instant, each above the one before (RFC 9562, section 6.2, method 2).

    The first has 74 random bits, and each next is further by a random step, so that an index grows at its end only.
    """

    def __init__(self, now: datetime, chance: Chance) -> None:
        milliseconds = max(0, int(now.timestamp() * 1000)) & (2**48 - 1)
        digits = f"{milliseconds:012x}"
        self._time = f"{digits[:8]}-{digits[8:]}-7"
        self._chance = chance
        self._last = -1
        self._steps: list[int] = []

    def next(self) -> str:
        """The next one."""
        if self._last < 0:
            self._last = int.from_bytes(self._chance.bytes(10), "big")
        else:
            self._last += 1 + self._step()
        last = self._last
        return SHAPE % (self._time, last >> 62 & 0xFFF, last >> 48 & 0x3FFF | 0x8000, last & 0xFFFFFFFFFFFF)

    def _step(self) -> int:
        if not self._steps:
            self._steps = [*self._chance.bytes(STEPS_AT_ONCE)]
        return self._steps.pop()
