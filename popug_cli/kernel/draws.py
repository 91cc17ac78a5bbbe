"""Draws: pure functions of a recorded seed, published so that anyone can repeat them.

``tasks/rules.py`` draws assignees and ``billing/rules.py`` prices; ``audit/draw_checks.py`` repeats every draw, and
``popug tasks verify`` those of a shuffle.

For an assignee, ``sha256-v1`` is the SHA-256 of ``seed:task_id``, in UTF-8; for a price, one of
``seed:task_id:fee`` and one of ``seed:task_id:reward``. The hash is read as a big-endian number, modulo the number of
possibilities. With 256 bits and at most 2^32 possibilities, the deviation from uniform is below 2^-224.
"""

from hashlib import sha256

ALGORITHM = "sha256-v1"


def draw_number(text: str, possibilities: int) -> int:
    """Return a number in ``range(possibilities)`` that depends on the text only."""
    assert possibilities > 0
    return int.from_bytes(sha256(text.encode()).digest(), "big") % possibilities
