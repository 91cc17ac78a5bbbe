"""Tokens forged with other libraries (joserfc, jsonwebtoken on Node): each gets exit 4 and a sentence."""

import io
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey

from popug_cli.cli.main import run
from popug_cli.messages.base import Nothing
from popug_cli.messages.identity import IssueToken, LogOut, RotateKey, ShowKeys, ShowUser, WhoAmI
from tests.support.error_checks import refused
from tests.support.identity_company import People, settle

pytestmark = [
    pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

NODE_LIMIT_SECONDS = 60
YEAR_SECONDS = 365 * 86400
FORGE = """
const jwt = require("jsonwebtoken");
const {claims, header, pem, key, rsa} = JSON.parse(require("fs").readFileSync(0, "utf8"));
const sign = (secret, algorithm) => jwt.sign(claims, secret, {algorithm, header, noTimestamp: true});
console.log(JSON.stringify({
    none: sign("", "none"),
    "HS256 with the public key as PEM": sign(pem, "HS256"),
    "HS256 with the public key as bytes": sign(Buffer.from(key, "base64"), "HS256"),
    "HS512 with the public key as PEM": sign(pem, "HS512"),
    "RS256 with a key of one's own": sign(rsa, "RS256"),
    "PS256 with a key of one's own": sign(rsa, "PS256"),
}));
"""


@dataclass
class Forger:
    """An attacker with the company's own key (the worst case), who can sign any claims with it."""

    people: People
    claims: dict[str, Any]
    kid: str
    key: OKPKey

    @property
    def header(self) -> dict[str, Any]:
        return {"alg": "EdDSA", "typ": "JWT", "kid": self.kid}

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_bytes(self) -> bytes:
        content: bytes = self.key.public_key.public_bytes_raw()
        return content

    def say(self, **changes: Any) -> str:
        """Return a token of the company's own key; a claim that is ``...`` is left out."""
        claims = {name: value for name, value in (self.claims | changes).items() if value is not ...}
        return sign(self.header, claims, self.key)

    def head(self, key: Key | None = None, **changes: Any) -> str:
        """Return a token with the right claims, and another header or key."""
        header = {name: value for name, value in (self.header | changes).items() if value is not ...}
        return sign(header, self.claims, key or self.key)


def sign(header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def secret(content: bytes) -> OctKey:
    """Use the bytes as a shared secret; joserfc is kept from checking them."""
    return OctKey(content, content)


def stretched(forger: Forger, **changes: Any) -> str:
    head, payload, signature = forger.say().split(".")
    parts = {"head": head, "payload": payload, "signature": signature} | changes
    return ".".join(parts.values())


def foreign(forger: Forger, *, embedded: bool = False) -> str:
    key = OKPKey.generate_key("Ed25519")
    extra = {"jwk": key.as_dict(private=False)} if embedded else {}
    return forger.head(key, kid=forger.kid if embedded else key.thumbprint(), **extra)


FORGERIES: dict[str, Callable[[Forger], str]] = {
    "no algorithm": lambda f: f.head(secret(b"x"), alg="none"),
    "no algorithm and no key id": lambda f: f.head(secret(b"x"), alg="none", kid=...),
    "HS256 with the public key as PEM": lambda f: f.head(secret(f.public_pem), alg="HS256"),
    "HS256 with the public key as bytes": lambda f: f.head(secret(f.public_bytes), alg="HS256"),
    "HS256 with the key id": lambda f: f.head(secret(f.kid.encode()), alg="HS256"),
    "ES256 with a key of one's own": lambda f: f.head(ECKey.generate_key("P-256"), alg="ES256"),
    "RS256 with a key of one's own": lambda f: f.head(RSAKey.generate_key(2048), alg="RS256"),
    "Ed25519, the algorithm's newer name": lambda f: f.head(alg="Ed25519"),
    "a key of one's own under the company's id": lambda f: f.head(OKPKey.generate_key("Ed25519")),
    "a foreign key id": lambda f: f.head(kid=OKPKey.generate_key("Ed25519").thumbprint()),
    "a foreign key under its id": foreign,
    "a foreign key that the header brings along": lambda f: foreign(f, embedded=True),
    "no key id": lambda f: f.head(kid=...),
    "a path as key id": lambda f: f.head(kid="../keys/signing"),
    "an empty key id": lambda f: f.head(kid=""),
    "no word about its type": lambda f: f.head(typ=""),
    "an access token": lambda f: f.head(typ="at+jwt"),
    "another issuer": lambda f: f.say(iss=f"popug:{uuid.uuid4()}"),
    "another audience": lambda f: f.say(aud="popug-dashboard"),
    "several audiences": lambda f: f.say(aud=["popug", "other"]),
    "a role as a list": lambda f: f.say(role=["admin"]),
    "a role that is none": lambda f: f.say(role="emperor"),
    "a role in capitals": lambda f: f.say(role="ADMIN"),
    "a lifetime of ten years": lambda f: f.say(exp=f.claims["iat"] + 10 * YEAR_SECONDS),
    "a lifetime of 366 days and a second": lambda f: f.say(exp=f.claims["iat"] + 366 * 86400 + 1),
    "an end before its beginning": lambda f: f.say(exp=f.claims["iat"] - 1),
    "no end": lambda f: f.say(exp=None),
    "an end as a text": lambda f: f.say(exp=str(f.claims["exp"])),
    "an end as a fraction": lambda f: f.say(exp=f.claims["exp"] + 0.5),
    "an end beyond all numbers": lambda f: f.say(exp=10**300),
    "true as the beginning": lambda f: f.say(iat=True),
    "a subject as a number": lambda f: f.say(sub=1),
    "an empty token id": lambda f: f.say(jti=""),
    "a scope as a list": lambda f: f.say(scope=["close-day"]),
    "a megabyte": lambda f: f.say(more="x" * 1_000_000),
    "a megabyte of key id": lambda f: f.head(kid="x" * 1_000_000),
    "no signature": lambda f: stretched(f, signature=""),
    "half a signature": lambda f: stretched(f, signature=f.say().rpartition(".")[2][:40]),
    "a signature in the standard alphabet": lambda f: stretched(f, signature="+/" * 43),
    "four parts": lambda f: f.say() + ".x",
    "two parts": lambda f: f.say().rpartition(".")[0],
    "nothing": lambda f: "..",
    "a bearer": lambda f: f"Bearer {f.say()}",
}  # fmt: skip
CLAIMS = ("iss", "aud", "iat", "exp", "sub", "jti", "username", "role")
OTHER_HOLDERS = {"role": "admin", "sub": "no-such-user", "jti": "no-such-token"}


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    """A company on the machine's clock, so that the installed program can be used, too."""
    root = tmp_path_factory.mktemp("forgeries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POPUG_SESSION", str(root / "session.json"))
        patch.delenv("POPUG_TOKEN", raising=False)
        people = settle(root / "home", root / "template", patch)
        people.clock.instant = datetime.fromtimestamp(int(time.time()), people.clock.instant.tzinfo)
        session = people.log_in().token
        (file,) = people.backend.home.keys.glob("*.pem")
        key = OKPKey.import_key(file.read_bytes())
        yield Forger(people, jwt.decode(session, key, algorithms=["EdDSA"]).claims, file.stem, key)


def run_command(forger: Forger, *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of the program."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["--home", str(forger.people.root), *arguments])
    return code, out.getvalue(), err.getvalue()


# --- valid tokens -------------------------------------------------------------------------------


def test_forged_token_with_true_claims_is_accepted(forger: Forger) -> None:
    assert forger.people.backend.perform(WhoAmI(), forger.say()).username == "kesha"
    assert forger.people.backend.perform(WhoAmI(), forger.say(scope=None)).username == "kesha"


def test_published_keys_verify_tokens_of_every_key(forger: Forger) -> None:
    before = forger.people.log_in().token
    kid = forger.people.act("boss", RotateKey()).kid
    after = forger.people.log_in().token
    published: Any = {"keys": forger.people.backend.perform(ShowKeys()).keys}
    for token, signer in ((before, forger.kid), (after, kid)):
        proved = jwt.decode(token, KeySet.import_key_set(published), algorithms=["EdDSA"])
        assert (proved.header["kid"], proved.claims["username"]) == (signer, "kesha")
        assert set(proved.claims) == {*CLAIMS, "kind", "at"}
        assert forger.people.is_good(token)


def test_published_key_is_named_by_its_thumbprint(forger: Forger) -> None:
    for key in forger.people.backend.perform(ShowKeys()).keys:
        assert OKPKey.import_key(dict(key)).thumbprint() == key["kid"]
        assert "d" not in key


# --- forged tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_token_is_refused(forger: Forger, forgery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = FORGERIES[forgery](forger)
    with refused("token_invalid", 4) as error:
        forger.people.backend.perform(WhoAmI(), token)
    assert error.value.message.count(".") == 1
    monkeypatch.setenv("POPUG_TOKEN", token)
    code, out, err = run_command(forger, "whoami")
    assert (code, out) == (4, "")
    assert err.startswith(f"error: {error.value.message}\n  POPUG_TOKEN is set ")
    assert err.endswith(f" {error.value.hint}\n")
    code, out, err = run_command(forger, "whoami", "--json")
    assert (code, out, json.loads(err)["error"]["code"]) == (4, "", "token_invalid")


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("value", [..., None, [], {}], ids=["dropped", "null", "list", "object"])
def test_every_claim_is_needed_in_its_own_type(forger: Forger, claim: str, value: Any) -> None:
    with refused("token_invalid", 4):
        forger.people.backend.perform(WhoAmI(), forger.say(**{claim: value}))


@pytest.mark.parametrize("claim", OTHER_HOLDERS)
def test_claim_that_differs_from_the_token_list_is_refused(forger: Forger, claim: str) -> None:
    """Even with the company's own key, the list of tokens decides about user, role and id."""
    with refused("token_revoked", 4):
        forger.people.backend.perform(WhoAmI(), forger.say(**{claim: OTHER_HOLDERS[claim]}))


def test_token_with_another_username_is_revoked(forger: Forger) -> None:
    with refused("token_revoked", 4):
        forger.people.backend.perform(WhoAmI(), forger.say(username="boss"))


def test_token_with_its_scope_removed_is_refused(forger: Forger) -> None:
    issued = forger.people.act("boss", IssueToken(username="boss", ttl_seconds=60, scope="close-day"))  # type: ignore[arg-type]
    claims = jwt.decode(issued.token, newest_key(forger), algorithms=["EdDSA"]).claims
    assert claims.pop("scope") == "close-day"
    with refused("token_revoked", 4):
        forger.people.backend.perform(ShowUser(username="kesha"), sign(forger.header, claims, forger.key))


def test_prolonged_token_expires_at_its_issued_expiry(forger: Forger) -> None:
    issued = forger.people.act("boss", IssueToken(username="kesha", ttl_seconds=60))
    claims = jwt.decode(issued.token, newest_key(forger), algorithms=["EdDSA"]).claims
    prolonged = sign(forger.header, claims | {"exp": claims["iat"] + YEAR_SECONDS}, forger.key)
    forger.people.clock.advance(seconds=59)
    assert forger.people.is_good(prolonged)
    forger.people.clock.advance(seconds=1)
    with refused("token_expired", 4):
        forger.people.backend.perform(WhoAmI(), prolonged)
    forger.people.clock.advance(seconds=-60)


def test_expired_and_revoked_tokens_have_their_own_codes(forger: Forger) -> None:
    now = int(forger.people.clock.instant.timestamp())
    with refused("token_expired", 4):
        forger.people.backend.perform(WhoAmI(), forger.say(iat=now - 60, exp=now - 1))
    token = forger.people.log_in().token
    assert forger.people.backend.perform(LogOut(), token) == Nothing()
    with refused("token_revoked", 4):
        forger.people.backend.perform(WhoAmI(), token)


def newest_key(forger: Forger) -> OKPKey:
    signing = (forger.people.backend.home.keys / "signing").read_text(encoding="ascii")
    return OKPKey.import_key((forger.people.backend.home.keys / f"{signing}.pem").read_bytes())


# --- on Node -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds jsonwebtoken; skip with a reason without one."""
    folder = tmp_path_factory.mktemp("node")
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("there is no node on this machine")
    if has_jsonwebtoken(node, folder):
        return folder
    if npm is None:
        pytest.skip("node has no jsonwebtoken, and there is no npm to fetch it")
    options = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=10000"]
    try:
        subprocess.run(
            [npm, "install", *options, "jsonwebtoken@9"],
            cwd=folder, check=True, capture_output=True, timeout=NODE_LIMIT_SECONDS,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"jsonwebtoken cannot be fetched from the npm registry ({type(error).__name__})")
    assert has_jsonwebtoken(node, folder)
    return folder


def has_jsonwebtoken(node: str, folder: Path) -> bool:
    asked = subprocess.run([node, "-e", "require('jsonwebtoken')"], cwd=folder, capture_output=True, check=False)
    return asked.returncode == 0


def test_token_forged_in_node_is_refused(forger: Forger, node_folder: Path) -> None:
    rsa = RSAKey.generate_key(2048).as_pem(private=True).decode()
    said = {"claims": forger.claims, "header": {"kid": forger.kid, "typ": "JWT"}, "pem": forger.public_pem.decode()}
    asked = said | {"key": OctKey.import_key(b"x" * 32).as_dict()["k"], "rsa": rsa}
    done = subprocess.run(
        ["node", "-e", FORGE], cwd=node_folder, input=json.dumps(asked), capture_output=True, text=True,
        timeout=NODE_LIMIT_SECONDS, check=False, env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    forged: dict[str, str] = json.loads(done.stdout)
    assert len(forged) == 6
    for name, token in forged.items():
        with refused("token_invalid", 4):
            forger.people.backend.perform(WhoAmI(), token)
        assert jwt_header(token)["kid"] == forger.kid, name


def jwt_header(token: str) -> dict[str, Any]:
    from base64 import urlsafe_b64decode

    head = token.partition(".")[0]
    header: dict[str, Any] = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return header
