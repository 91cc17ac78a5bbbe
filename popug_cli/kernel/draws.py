"""The draws: published pure functions of a recorded seed, so that anyone can check them.

``sha256-v1``: the SHA-256 of ``seed:task_id`` (for a price ``seed:task_id:fee`` and ``seed:task_id:reward``), UTF-8,
read as a big-endian number, modulo the number of possibilities. With 256 bits and at most 2^32 possibilities the
deviation from uniform is below 2^-224.
"""

from collections.abc import Sequence
from hashlib import sha256

ALGORITHM = "sha256-v1"
FEE_DOLLARS = range(10, 21)
REWARD_DOLLARS = range(20, 41)


def draw_number(text: str, possibilities: int) -> int:
    """A number in ``range(possibilities)`` that depends on nothing but the text."""
    assert possibilities > 0
    return int.from_bytes(sha256(text.encode()).digest(), "big") % possibilities


def draw_assignee(seed: str, task_id: str, candidates: Sequence[str]) -> str:
    """The assignee of a task; ``candidates`` are user ids in ascending order."""
    return candidates[draw_number(f"{seed}:{task_id}", len(candidates))]


def draw_price_cents(seed: str, task_id: str) -> tuple[int, int]:
    """Fee and reward of a task in cents, each uniform over its whole dollars."""
    fee = FEE_DOLLARS[draw_number(f"{seed}:{task_id}:fee", len(FEE_DOLLARS))]
    reward = REWARD_DOLLARS[draw_number(f"{seed}:{task_id}:reward", len(REWARD_DOLLARS))]
    return fee * 100, reward * 100
