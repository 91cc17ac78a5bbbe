"""The cost of verifying a token, once everything is imported, against the bare check of an Ed25519 signature.

``python -m tests.benchmarks.tokens [TOKENS] [ROUNDS]``, 500 tokens in 9 rounds if left out; the rounds alternate.
*Proved* is the signature with the key read from its file, and every claim; *admitted* adds the lookup in
identity's list and in the table of permissions, in its own transaction, as each command does it.
"""

import os
import statistics
import sys
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path

from popug_cli.identity import keys, policy
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.identity import IssueToken, WhoAmI
from tests.benchmarks.figures import machine
from tests.support.company import InProcess

GOAL_MS = 1.0


def main(count: int, rounds: int) -> None:
    """Print the table."""
    os.environ |= {"POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192", "POPUG_IDENTITY_ARGON2_TIME_COST": "1"}
    with tempfile.TemporaryDirectory() as folder:
        ways = prepared(InProcess(Path(folder) / "home"))
        for way in ways.values():
            way()
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in sorted(ways, reverse=bool(number % 2)):
                taken[name].append(milliseconds(ways[name], count))
    sys.stdout.write(f"{machine()}\n{count} tokens, medians of {rounds} rounds, each way in turn\n\n")
    for name in ways:
        median = statistics.median(taken[name])
        goal = f"  (goal: at most {GOAL_MS} ms)" if name == "proved" else ""
        sys.stdout.write(f"{name:<10} {median:7.3f} ms{goal}\n")


def prepared(company: InProcess) -> dict[str, Callable[[], object]]:
    """Return the functions to be measured, by name."""
    runtime = company.backend.runtime
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=3600)).token
    body, _, signature = token.rpartition(".")
    raw, signed = urlsafe_b64decode(signature + "=="), body.encode()
    public = keys.signing_key(company.backend.home).private.public_key()

    def admitted() -> None:
        principal = policy.authenticate(token, runtime)
        with runtime.reading(principal) as context:
            policy.authorize(principal, DECLARATIONS[WhoAmI], WhoAmI(), context)

    return {
        "bare": lambda: public.verify(raw, signed),
        "proved": lambda: policy.authenticate(token, runtime),
        "admitted": admitted,
    }


def milliseconds(way: Callable[[], object], count: int) -> float:
    """Return the cost of one call."""
    since = time.perf_counter()
    for _ in range(count):
        way()
    return (time.perf_counter() - since) / count * 1000


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [500, 9][len(given) :]))
