"""Tokens forged by an attacker who has read all output of the program, tried on the installed program."""

import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey
from joserfc.util import urlsafe_b64decode

from tests.support.installed_company import Company, Result


def decoded(part: str) -> dict[str, Any]:
    """Decode one part of a token, which needs no key."""
    content: dict[str, Any] = json.loads(urlsafe_b64decode(part.encode()))
    return content


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_forged_token_is_refused_in_one_sentence(staff: Company) -> None:
    header, claims, _ = staff.token("kesha").split(".")
    head, said = decoded(header), decoded(claims) | {"role": "admin"}
    (published,) = staff.run("token", "keys").ok()["keys"]
    public = OctKey.import_key(urlsafe_b64decode(published["x"].encode()))
    own = OKPKey.generate_key("Ed25519")
    forged = [
        jwt.encode(head | {"alg": "none"}, said, public, algorithms=["none"]),
        jwt.encode(head | {"alg": "HS256"}, said, public, algorithms=["HS256"]),
        jwt.encode(head, said, own, algorithms=["EdDSA"]),
        jwt.encode(head | {"kid": own.thumbprint()}, said, own, algorithms=["EdDSA"]),
    ]
    for token in forged:
        refuse(staff.run("user", "list", env={"POPUG_TOKEN": token}))


def test_token_of_a_megabyte_in_the_session_file_is_refused(company: Company) -> None:
    company.session.write_text(json.dumps({str(company.home): "e" * 1_000_000}), encoding="utf-8")
    company.session.chmod(0o600)
    refuse(company.run("whoami"))


def refuse(result: Result) -> None:
    error = result.refused(4, "token_invalid")
    assert error["message"].count(".") == 1
    assert len(error["message"]) < 120
