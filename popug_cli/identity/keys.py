"""The keys that sign tokens: one file per key in the home, named by the key's id; ``signing`` names the active key.

A key's id is its thumbprint (RFC 7638), so a file that contains another key is detected.
"""

import re
import stat
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from popug_cli.kernel.disk_errors import owner_note
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.home import Home, replace_restoring_on_error
from popug_cli.kernel.jwt_payload import decode_segment
from popug_cli.kernel.randomness import RandomSource
from popug_cli.platform.file_id import FileFingerprint, file_fingerprint
from popug_cli.platform.files import make_directory, replace_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
ALGORITHM = "EdDSA"
_KID_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")


class SigningKey(NamedTuple):
    """A private key and the id (``kid``) under which its public key is published."""

    kid: str
    private: "Ed25519PrivateKey"


def signing_key(home: Home) -> SigningKey:
    """Return the active key; raise ``key_invalid`` or ``insecure_file``."""
    kid = active_key_id(home)
    if not kid:
        raise _key_invalid(_active_key_file(home), "does not name the active key")
    return SigningKey(kid, _load(_key_file(home, kid)))


def active_key_id(home: Home) -> str:
    """Return the id of the active key; empty if none is named."""
    file = _active_key_file(home)
    try:
        kid = file.read_text(encoding="ascii").strip() if file.is_file() else ""  # reading a pipe would block
    except (FileNotFoundError, ValueError):
        kid = ""
    return kid if _KID_PATTERN.fullmatch(kid) else ""


def public_key(home: Home, kid: str) -> "Ed25519PublicKey | None":
    """Return the public key with the id `kid`, or None if the home has only other keys.

    Raise ``key_invalid`` if the file is damaged or the home has no keys, ``insecure_file`` if its mode gives other
    users any access.
    """
    if _KID_PATTERN.fullmatch(kid) and _key_file(home, kid).exists():
        return _load(_key_file(home, kid)).public_key()
    if not _key_files(home):
        raise _key_invalid(home.keys, "holds no key")
    return None


def key_file_fingerprint(home: Home, kid: str) -> FileFingerprint | None:
    """Return the fingerprint of a key's file, or None if there is no such file."""
    return file_fingerprint(_key_file(home, kid)) if _KID_PATTERN.fullmatch(kid) else None


def public_keys(home: Home) -> list[dict[str, str]]:
    """Return all public keys as JWKs (RFC 8037), the active one first; raise ``key_invalid`` or ``insecure_file``."""
    active_kid = signing_key(home).kid
    files = sorted(_key_files(home), key=lambda file: (file.stem != active_kid, file.stem))
    return [published_jwk(file.stem, _jwk(_load(file).public_key())["x"]) for file in files]


def published_jwk(kid: str, public_key: str) -> dict[str, str]:
    """Return a public key, given in base64url, as the JWK that is published (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": public_key, "kid": kid, "use": "sig", "alg": ALGORITHM}


def load_public_key(kid: str, public_key: str) -> "Ed25519PublicKey | None":
    """Return the public key that is stored in base64url under its id, or None if it is not that key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(decode_segment(public_key))
    except ValueError:
        return None
    return key if thumbprint(key) == kid else None


def make_signing_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> str:
    """Create a key, make it the active one and return its id; the other keys stay.

    If the transaction fails, the callback that is added to `on_rollback` restores the previous state.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(randomness.bytes(KEY_BYTES))
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = thumbprint(key.public_key())
    make_directory(home.keys)
    on_rollback.enter_context(_activated_until_error(home, kid, content))
    return kid


@contextmanager
def _activated_until_error(home: Home, kid: str, content: bytes) -> Iterator[None]:
    """Write the key and activate it. If the block fails, delete it again, unless it is still the active key."""
    try:
        replace_file(_key_file(home, kid), content)
        with replace_restoring_on_error(_active_key_file(home), kid.encode()):
            yield
    except BaseException:
        with suppress(OSError):
            if not _active_key_file(home).exists() or _active_key_file(home).read_text(encoding="ascii") != kid:
                _key_file(home, kid).unlink()
        raise


def create_first_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> None:
    """Create a key and make it the active one, unless the home has an active key already."""
    if not _active_key_file(home).exists():
        make_signing_key(home, randomness, on_rollback)


def ensure_signing_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> str | None:
    """Create a key if the active one is unusable or insecure. Return the new key's id, or None if none was created."""
    try:
        signing_key(home)
    except NotAuthenticated:
        return make_signing_key(home, randomness, on_rollback)
    return None


def thumbprint(key: "Ed25519PublicKey") -> str:
    """Return the id of a key: the SHA-256 of its canonical JWK in base64url (RFC 7638)."""
    jwk = _jwk(key)
    canonical = f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}"}}'
    return _base64url(sha256(canonical.encode()).digest())


def _jwk(key: "Ed25519PublicKey") -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.public_bytes_raw())}


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _active_key_file(home: Home) -> Path:
    return home.keys / "signing"


def _key_file(home: Home, kid: str) -> Path:
    return home.keys / f"{kid}.pem"


def _key_files(home: Home) -> list[Path]:
    return [file for file in home.keys.glob("*.pem") if _KID_PATTERN.fullmatch(file.stem)]


def _load(file: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _key_invalid(file, "is damaged") from error
    if not isinstance(key, Ed25519PrivateKey) or thumbprint(key.public_key()) != file.stem:
        raise _key_invalid(file, "contains another key than its name says")
    return key


def _read(file: Path) -> bytes:
    try:
        mode = file.stat().st_mode
        content = file.read_bytes() if stat.S_ISREG(mode) else b""  # reading a pipe would block
    except OSError as error:
        invalid = _key_invalid(file, f"is missing or cannot be read{owner_note(file)[0]}")
        invalid.hint = owner_note(file)[1] or invalid.hint
        raise invalid from error
    if mode & 0o077:
        raise NotAuthenticated(
            "insecure_file",
            f"Other users can read the signing key {file}.",
            hint=f"Run `chmod 600 {file}`, then `popug token rotate` if it may have been read.",
            details={"path": str(file)},
        )
    return content


def _key_invalid(path: Path, reason: str) -> NotAuthenticated:
    return NotAuthenticated(
        "key_invalid",
        f"{path} {reason}, so no token can be signed or verified.",
        hint="Restore keys/ from a copy, or run `popug recover NAME` to start with a new key.",
        details={"path": str(path)},
    )
