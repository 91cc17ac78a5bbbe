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


def new_seed(chance: Chance) -> str:
    """A fresh seed for a draw: 128 bits in hexadecimal."""
    return chance.bytes(SEED_BYTES).hex()


def unit_interval(chance: Chance) -> float:
    """A number in [0, 1), for jitter only."""
    return int.from_bytes(chance.bytes(4), "big") / 2**32


def uuid7(now: datetime, chance: Chance) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): milliseconds since 1970, then random bits."""
    milliseconds = max(0, int(now.timestamp() * 1000)) & (2**48 - 1)
    digits = f"{milliseconds:012x}7{chance.bytes(10).hex()}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
