"""Tokens that were proved a moment ago: where one process serves many requests, each is proved once.

What can change is looked at each time: the time, the file of the key, and (by the gate) the list of tokens.
"""

from functools import partial
from typing import NamedTuple

from popug_cli.bus.runtime import Runtime
from popug_cli.identity import gate, keys, tokens
from popug_cli.messages.principal import Principal

MOST_PROOFS = 1_000


class Proof(NamedTuple):
    """What a token said, and how the file of its key looked then."""

    claims: tokens.Claims
    kid: str
    mark: keys.Mark


class Proofs:
    """Proofs of one company's tokens; safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, Proof] = {}

    def identify(self, token: str, runtime: Runtime) -> Principal:
        """The holder of a token; raises errors of exit 4."""
        proof = self._known.get(token)
        now = runtime.clock.now()
        if proof is None or keys.mark_of(runtime.home, proof.kid) != proof.mark or now.timestamp() >= proof.claims.exp:
            proof = _prove(token, runtime)
            if len(self._known) >= MOST_PROOFS:
                self._known.clear()
            self._known[token] = proof
        return gate.principal_of(proof.claims)


def _prove(token: str, runtime: Runtime) -> Proof:
    kid = tokens.kid_of(token)
    mark = keys.mark_of(runtime.home, kid)
    find_key = partial(keys.public_key, runtime.home)
    claims = tokens.prove(token, find_key, tokens.issuer_of(runtime.home_id), runtime.clock.now())
    return Proof(claims, kid, mark)
