"""Verify tokens at the gateway, with the public keys of identity, before it reads a request of any size.

The service that performs the message verifies the token again. Only the service refuses one that was revoked, or whose
key was withdrawn.
"""

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from popug_cli.identity import devices, tokens
from popug_cli.identity.rules import lower_username
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.errors import NotAuthenticated, PopugError
from popug_cli.kernel.jwt_payload import decode_segment
from popug_cli.messages.identity import KeySet, LogIn

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_VERIFIED_TOKENS = 1_000
UNKNOWN_KEY_SECONDS = 1.0  # a token with an unknown key makes the gateway fetch the keys at most this often


class TokenChecks:
    """The keys of one company and its verified tokens. ``fetch_keys`` asks identity, and raises its errors."""

    def __init__(self, home_id: str, fetch_keys: Callable[[], KeySet]) -> None:
        self._home_id = home_id
        self._fetch_keys = fetch_keys
        self._clock = SystemClock()
        self._lock = Lock()
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at = -UNKNOWN_KEY_SECONDS
        self._fetch_error: PopugError | None = None
        self._expiries: dict[str, int] = {}

    def has_verified(self, token: str | None) -> bool:
        """Return whether the signature of a token was verified before and the token has not expired."""
        return token is not None and self._clock.now().timestamp() < self._expiries.get(token, 0)

    def verify(self, token: str | None) -> None:
        """Raise the error of a missing token, or of one whose signature or lifetime is not valid.

        Raise an error of identity if it is asked for its keys and does not answer.
        """
        if token is None:
            raise NotAuthenticated("not_logged_in", "You are not logged in.", hint="Run `popug login NAME`.")
        if self.has_verified(token):
            return
        issuer = tokens.issuer_of(self._home_id)
        claims = tokens.verify(token, self._find_key, issuer, self._clock.now())
        if len(self._expiries) >= MAX_VERIFIED_TOKENS:
            self._expiries.clear()
        self._expiries[token] = claims.exp

    def user_of_known_device(self, message: LogIn) -> str | None:
        """Return the username in lower case, if the device that logs in has logged in as this user before."""
        try:
            device_id = devices.known_device(
                message.device_token, message.username, self._find_key, self._home_id, self._clock.now()
            )
        except PopugError:  # without the keys, no device is known
            return None
        return None if device_id is None else lower_username(message.username)

    def _find_key(self, kid: str) -> "Ed25519PublicKey | None":
        """Return a public key by its id; fetch the keys if it is not among them.

        Raise the error of identity if it does not answer; for ``UNKNOWN_KEY_SECONDS``, raise it again without asking.
        """
        if kid in self._keys:
            return self._keys[kid]
        with self._lock:
            if kid not in self._keys and monotonic() - self._fetched_at > UNKNOWN_KEY_SECONDS:
                self._fetch()
                self._fetched_at = monotonic()
            if kid not in self._keys and self._fetch_error is not None:
                raise self._fetch_error
            return self._keys.get(kid)

    def _fetch(self) -> None:
        """Replace the keys, or keep them and the error of identity."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            fetched = self._fetch_keys()
        except PopugError as error:
            self._fetch_error = error
            return
        self._fetch_error = None
        self._keys = {key["kid"]: Ed25519PublicKey.from_public_bytes(decode_segment(key["x"])) for key in fetched.keys}
