"""Cache of verified tokens: a process that serves many requests verifies each signature once.

Each request still checks here that the token has not expired and that its key's file has not changed;
``authorization`` checks the stored token.
"""

from typing import NamedTuple

from popug_cli.bus.context import Runtime
from popug_cli.identity import authorization, keys, policy, tokens
from popug_cli.messages.principal import Principal
from popug_cli.platform.file_id import FileFingerprint

MAX_TOKENS = 1_000


class VerifiedToken(NamedTuple):
    """The claims of a token, and the fingerprint of its key's file at the time of verification."""

    claims: tokens.Claims
    kid: str
    key_fingerprint: FileFingerprint | None


class VerifiedTokenCache:
    """Verified tokens of one company; safe to share between threads. It is emptied when it has ``MAX_TOKENS``."""

    def __init__(self) -> None:
        self._verified: dict[str, VerifiedToken] = {}

    def authenticate(self, token: str, runtime: Runtime) -> Principal:
        """Return the owner of a token; verify it unless that was done already.

        Raise the errors of ``policy.authenticate``.
        """
        verified = self._find(token, runtime)
        if verified is None:
            verified = _verify(token, runtime)
            if len(self._verified) >= MAX_TOKENS:
                self._verified.clear()
            self._verified[token] = verified
        return authorization.principal_of(verified.claims)

    def is_verified(self, token: str, runtime: Runtime) -> bool:
        """Return whether ``authenticate`` would return a principal without verifying the token."""
        return self._find(token, runtime) is not None

    def _find(self, token: str, runtime: Runtime) -> VerifiedToken | None:
        verified = self._verified.get(token)
        is_current = (
            verified is not None
            and keys.key_file_fingerprint(runtime.home, verified.kid) == verified.key_fingerprint
            and runtime.clock.now().timestamp() < verified.claims.exp
        )
        return verified if is_current else None


def _verify(token: str, runtime: Runtime) -> VerifiedToken:
    kid = tokens.kid_of(token)
    key_fingerprint = keys.key_file_fingerprint(runtime.home, kid)
    return VerifiedToken(policy.verify(token, runtime), kid, key_fingerprint)
