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
VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_seed(chance: Chance) -> str:
    """A fresh seed for a draw: 128 bits in hexadecimal."""
    return chance.bytes(SEED_BYTES).hex()


def unit_interval(chance: Chance) -> float:
    """A number in [0, 1), for jitter only."""
    return int.from_bytes(chance.bytes(4), "big") / 2**32


def uuid7(now: datetime, chance: Chance) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): milliseconds since 1970, then random bits."""
    return uuid7_at(uuid7_time(now), chance)


def uuid7_time(now: datetime) -> str:
    """The part of a UUID of version 7 that says when, for many of one instant."""
    milliseconds = max(0, int(now.timestamp() * 1000)) & (2**48 - 1)
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


def uuid7_at(time: str, chance: Chance) -> str:
    """A UUID of version 7 with the given part that says when."""
    digits = chance.bytes(10).hex()
    return f"{time}{digits[:3]}-{VARIANTS[digits[3]]}{digits[4:7]}-{digits[7:19]}"
