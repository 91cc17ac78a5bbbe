"""Tokens that were proved a moment ago: where one process serves many requests, each is proved once.

What can change is looked at each time: the time, the file of the key, and (by the gate) the list of tokens.
"""

from functools import partial
from typing import NamedTuple

from popug_cli.bus.context import Runtime
from popug_cli.identity import authorization, keys, tokens
from popug_cli.messages.principal import Principal
from popug_cli.platform.file_id import FileFingerprint

MAX_TOKENS = 1_000


class VerifiedToken(NamedTuple):
    """What a token said, and how the file of its key looked then."""

    claims: tokens.Claims
    kid: str
    key_fingerprint: FileFingerprint | None


class VerifiedTokenCache:
    """Proofs of one company's tokens; safe to share between threads."""

    def __init__(self) -> None:
        self._verified: dict[str, VerifiedToken] = {}

    def authenticate(self, token: str, runtime: Runtime) -> Principal:
        """The holder of a token; raises errors of exit 4."""
        verified = self._verified.get(token)
        now = runtime.clock.now()
        if (
            verified is None
            or keys.key_file_fingerprint(runtime.home, verified.kid) != verified.key_fingerprint
            or now.timestamp() >= verified.claims.exp
        ):
            verified = _verify(token, runtime)
            if len(self._verified) >= MAX_TOKENS:
                self._verified.clear()
            self._verified[token] = verified
        return authorization.principal_of(verified.claims)


def _verify(token: str, runtime: Runtime) -> VerifiedToken:
    kid = tokens.kid_of(token)
    key_fingerprint = keys.key_file_fingerprint(runtime.home, kid)
    find_key = partial(keys.public_key, runtime.home)
    claims = tokens.verify(token, find_key, tokens.issuer_of(runtime.home_id), runtime.clock.now())
    return VerifiedToken(claims, kid, key_fingerprint)
