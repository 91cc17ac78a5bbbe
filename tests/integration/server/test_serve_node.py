"""A program on Node verifies a token with the served JWK set, without any code of popug."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_server import RunningServer, create_home
from tests.support.server_fixture import ServerFixture

INSTALL_SECONDS = 120
PROVE = """
import { createRemoteJWKSet, jwtVerify } from 'jose';
const [base, token] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', base));
const found = await jwtVerify(token, keys, { audience: 'popug', algorithms: ['EdDSA'] });
console.log(JSON.stringify(found.payload));
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the library; skipped without Node or without a download."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "prove.mjs").write_text(PROVE)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "jose@5"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install jose: {done.stderr[-200:]}")
    return folder


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("company") / "home")


@pytest.fixture(scope="module")
def served(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0") as found:
        yield found


def prove(project: Path, served: RunningServer, token: str) -> "subprocess.CompletedProcess[str]":
    command = ["node", "prove.mjs", f"http://127.0.0.1:{served.port}", token]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)


def test_node_verifies_a_token_and_refuses_a_forged_one(
    project: Path, served: RunningServer, company: ServerFixture
) -> None:
    token = company.tokens["kesha"]
    done = prove(project, served, token)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["username"] == "kesha"
    head, _, signature = token.rpartition(".")
    assert prove(project, served, f"{head}.{signature[::-1]}").returncode != 0
