"""The keys that sign tokens: a file each in the home, named by its id, and a mark on the one that signs.

A key's id is its thumbprint (RFC 7638), so that a file with another key in it is found out.
"""

import re
import stat
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.home import Home, replaced_until_error
from popug_cli.kernel.randomness import RandomSource
from popug_cli.platform.file_id import FileFingerprint, file_fingerprint
from popug_cli.platform.files import make_directory, replace_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
ALGORITHM = "EdDSA"
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


class SigningKey(NamedTuple):
    """A private key and the id under which others find its public half."""

    kid: str
    private: "Ed25519PrivateKey"


def signing_key(home: Home) -> SigningKey:
    """The key that signs now; raises ``key_invalid`` or ``insecure_file``."""
    file = _active_key_file(home)
    try:
        kid = file.read_text(encoding="ascii").strip() if file.is_file() else ""  # a pipe would have no end
    except (FileNotFoundError, ValueError):
        kid = ""
    if not _KID.fullmatch(kid):
        raise _invalid(file, "does not name the key that signs")
    return SigningKey(kid, _load(_file(home, kid)))


def public_key(home: Home, kid: str) -> "Ed25519PublicKey | None":
    """The public key of that id, None where the home has others; raises ``key_invalid`` where it has none at all."""
    if _KID.fullmatch(kid) and _file(home, kid).exists():
        return _load(_file(home, kid)).public_key()
    if not _files(home):
        raise _invalid(home.keys, "holds no key")
    return None


def key_file_fingerprint(home: Home, kid: str) -> FileFingerprint | None:
    """Return the fingerprint of a key's file, or None if there is none."""
    return file_fingerprint(_file(home, kid)) if _KID.fullmatch(kid) else None


def public_keys(home: Home) -> list[dict[str, str]]:
    """Every public key as a JWK (RFC 8037), the one that signs first."""
    first = signing_key(home).kid
    files = sorted(_files(home), key=lambda file: (file.stem != first, file.stem))
    return [_jwk(_load(file).public_key()) | {"kid": file.stem, "use": "sig", "alg": ALGORITHM} for file in files]


def make_signing_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> str:
    """Make a key that signs from now on, beside those that are there; its id comes back.

    Where the transaction fails that ``on_rollback`` listens to, all is again as it was.
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
    """Let a new key sign; where what follows fails it is gone again, unless it still signs all the same."""
    try:
        replace_file(_file(home, kid), content)
        with replaced_until_error(_active_key_file(home), kid.encode()):
            yield
    except BaseException:
        with suppress(OSError):
            if not _active_key_file(home).exists() or _active_key_file(home).read_text(encoding="ascii") != kid:
                _file(home, kid).unlink()
        raise


def create_first_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> None:
    """Make a key in a home that never had one."""
    if not _active_key_file(home).exists():
        make_signing_key(home, randomness, on_rollback)


def ensure_signing_key(home: Home, randomness: RandomSource, on_rollback: ExitStack) -> str | None:
    """Make a key where none can sign; its id comes back, None where nothing was amiss."""
    try:
        signing_key(home)
    except NotAuthenticated:
        return make_signing_key(home, randomness, on_rollback)
    return None


def thumbprint(key: "Ed25519PublicKey") -> str:
    """The id of a key: the SHA-256 of its JWK in canonical form, base64url."""
    jwk = _jwk(key)
    canonical = f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}"}}'
    return _base64url(sha256(canonical.encode()).digest())


def _jwk(key: "Ed25519PublicKey") -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.public_bytes_raw())}


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _active_key_file(home: Home) -> Path:
    return home.keys / "signing"


def _file(home: Home, kid: str) -> Path:
    return home.keys / f"{kid}.pem"


def _files(home: Home) -> list[Path]:
    return [file for file in home.keys.glob("*.pem") if _KID.fullmatch(file.stem)]


def _load(file: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid(file, "is damaged") from error
    if not isinstance(key, Ed25519PrivateKey) or thumbprint(key.public_key()) != file.stem:
        raise _invalid(file, "holds another key than its name says")
    return key


def _read(file: Path) -> bytes:
    try:
        mode = file.stat().st_mode
        content = file.read_bytes() if stat.S_ISREG(mode) else b""  # a pipe would have no end
    except OSError as error:
        raise _invalid(file, "is missing or cannot be read") from error
    if mode & 0o077:
        raise NotAuthenticated(
            "insecure_file",
            f"Others can read the signing key {file}.",
            hint=f"Run `chmod 600 {file}`, then `popug token rotate` if it may have been read.",
            details={"path": str(file)},
        )
    return content


def _invalid(path: Path, why: str) -> NotAuthenticated:
    return NotAuthenticated(
        "key_invalid",
        f"{path} {why}, so no token can be signed or proved.",
        hint="Put keys/ back from a copy, or run `popug recover NAME` to begin with a new key.",
        details={"path": str(path)},
    )
