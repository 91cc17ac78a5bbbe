"""Key files that are missing, damaged, foreign or readable by others, and recovery."""

import errno
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import RecoverAdmin, RegisterFirstAdmin, RotateKey, ShowKeys, WhoAmI
from popug_cli.platform import files
from tests.support.company import PASSWORD
from tests.support.error_checks import refused
from tests.support.identity_company import People


def key_file(people: People) -> Path:
    (file,) = people.backend.home.keys.glob("*.pem")
    return file


def pem(key: Ed25519PrivateKey | object) -> bytes:
    assert hasattr(key, "private_bytes")
    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return content


def test_first_key_is_readable_by_its_owner_only(people: People) -> None:
    files = list(people.backend.home.keys.iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_public_keys_are_a_jwk_set_without_anything_private(people: People) -> None:
    (key,) = people.backend.perform(ShowKeys()).keys
    assert {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key_file(people).stem} == {
        name: value for name, value in key.items() if name != "x"
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is damaged"),
        (b"no key", "is damaged"),
        (b"\xff" * 100, "is damaged"),
        (pem(Ed25519PrivateKey.generate()), "contains another key than its name says"),
        (pem(generate_ec_key(SECP256R1())), "contains another key than its name says"),
    ],
    ids=["empty", "text", "bytes", "foreign", "elliptic"],
)
def test_damaged_or_foreign_key_neither_signs_nor_verifies(people: People, content: bytes, why: str) -> None:
    token = people.log_in().token
    key_file(people).write_bytes(content)
    path = {"path": str(key_file(people))}
    for attempt in (
        lambda: people.backend.perform(WhoAmI(), token),
        people.log_in,
        lambda: people.backend.perform(ShowKeys()),
    ):
        with refused("key_invalid", 4, path) as error:
            attempt()
        assert "recover" in error.value.hint
        assert error.value.message == f"{key_file(people)} {why}, so no token can be signed or verified."


def test_missing_key_is_refused_and_not_replaced(people: People) -> None:
    token = people.log_in().token
    missing, folder = key_file(people), people.backend.home.keys
    missing.unlink()
    for attempt, path, why in (
        (people.log_in, missing, "is missing or cannot be read"),
        (lambda: people.backend.perform(WhoAmI(), token), folder, "holds no key"),
    ):
        with refused("key_invalid", 4, {"path": str(path)}) as error:
            attempt()
        assert error.value.message.startswith(f"{path} {why}, so no token")
    assert list(people.backend.home.keys.glob("*.pem")) == []


@pytest.mark.parametrize("mark", [b"", b"../../etc/passwd", b"\xff\xfe", b"x" * 43])
def test_invalid_name_of_the_signing_key_is_refused(people: People, mark: bytes) -> None:
    path = people.backend.home.keys / "signing"
    path.write_bytes(mark)
    with refused("key_invalid", 4) as error:
        people.log_in()
    if len(mark) != 43:
        assert error.value.message.startswith(f"{path} does not name the active key, so no token")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_readable_by_others_is_refused_with_a_chmod_hint(people: People, mode: int) -> None:
    token = people.log_in().token
    key_file(people).chmod(mode)
    for attempt in (people.log_in, lambda: people.backend.perform(WhoAmI(), token)):
        with refused("insecure_file", 4, {"path": str(key_file(people))}) as error:
            attempt()
        assert f"chmod 600 {key_file(people)}" in error.value.hint
    key_file(people).chmod(0o600)
    assert people.is_good(token)


def test_refused_login_leaves_no_session(people: People) -> None:
    key_file(people).unlink()
    head = people.head()
    with pytest.raises(PopugError):
        people.log_in()
    assert people.rows("SELECT * FROM identity_tokens") == []
    assert people.events(head) == []


def test_recover_makes_a_key_if_none_can_sign(people: People) -> None:
    for file in people.backend.home.keys.iterdir():
        file.unlink()
    head = people.head()
    people.backend.perform(RecoverAdmin(username="boss", password=PASSWORD))
    assert "key_rotated operator" in people.events(head)
    assert ("key_rotated", {"kid": key_file(people).stem}) in people.published_events(head)
    assert people.is_good(people.log_in("boss").token)


def test_recover_keeps_a_valid_key(people: People) -> None:
    file = key_file(people)
    people.backend.perform(RecoverAdmin(username="boss", password=PASSWORD))
    assert key_file(people) == file


def test_rotation_makes_a_second_key(people: People) -> None:
    first = key_file(people)
    head = people.head()
    kid = people.act("boss", RotateKey()).kid
    (name, published), rotated = people.published_events(head)
    assert (name, published["kid"], rotated) == ("key_published", kid, ("key_rotated", {"kid": kid}))
    assert published in [{"kid": key["kid"], "public_key": key["x"]} for key in people.backend.perform(ShowKeys()).keys]
    assert {file.stem for file in people.backend.home.keys.glob("*.pem")} == {first.stem, kid}


def test_key_that_cannot_be_synced_is_removed(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(directory: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(directory))

    first, head = key_file(people), people.head()
    monkeypatch.setattr(files, "sync_directory", fail)
    with refused("io_error", 8):
        people.act("boss", RotateKey())
    assert [*people.backend.home.keys.glob("*.pem")] == [first]
    assert people.published_events(head) == []


def test_key_that_signs_is_shown_first(people: People) -> None:
    kids = {key_file(people).stem}
    for _ in range(4):
        kid = people.act("boss", RotateKey()).kid
        shown = [key["kid"] for key in people.backend.perform(ShowKeys()).keys]
        assert shown == [kid, *sorted(kids)]
        kids.add(kid)


def test_second_init_makes_no_second_key(people: People) -> None:
    with refused("already_initialised", 6):
        people.backend.perform(RegisterFirstAdmin(username="ada", email="a@b", password=PASSWORD))
    assert key_file(people)
