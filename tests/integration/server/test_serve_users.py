"""File permissions in effect: one system user owns the company, and others reach it by a group's socket only.

The test creates the users, which takes root; without root it is skipped.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.running_server import PATIENCE_SECONDS, create_home
from tests.support.server_fixture import ServerFixture

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd"), reason="only root can make users of the system"
)


@dataclass
class People:
    """Users of the system: the owner of the company, a member of the group, and an outsider."""

    group: str = f"popug-g{os.getpid()}"
    owner: str = f"popug-o{os.getpid()}"
    employee: str = f"popug-e{os.getpid()}"
    outsider: str = f"popug-x{os.getpid()}"
    interpreter: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def make(self) -> None:
        subprocess.run(["groupadd", self.group], check=True)
        for name, groups in ((self.owner, self.group), (self.employee, self.group), (self.outsider, "")):
            extra = ["--groups", groups] if groups else []
            subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", *extra, name], check=True)
        self._find_interpreter()

    def remove(self) -> None:
        for name in (self.owner, self.employee, self.outsider):
            subprocess.run(["userdel", name], check=False, capture_output=True)
        subprocess.run(["groupdel", self.group], check=False, capture_output=True)

    def start(self, name: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Run Python as a user, with the given environment only."""
        return subprocess.Popen(
            [*self.interpreter, *arguments],
            user=name,
            group=name,
            extra_groups=[self.group] if name in {self.owner, self.employee} else [],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=self.environment | environment,
        )

    def run(self, name: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(name, *arguments, **environment)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def _find_interpreter(self) -> None:
        """Find a Python that other users can run: this one, or the system's with these packages."""
        path = os.pathsep.join([str(ROOT), *(each for each in sys.path if each.endswith("site-packages"))])
        system = f"/usr/bin/python3.{sys.version_info.minor}"
        for interpreter in (sys.executable, system):
            self.interpreter, self.environment = [interpreter], {"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}
            try:
                if self.run(self.outsider, "-c", "import popug_cli.server.run").returncode == 0:
                    return
            except OSError:
                continue
        pytest.skip("no Python that other users of the system can run")


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    found = People()
    try:
        found.make()
        yield found
    finally:
        found.remove()


@dataclass
class Company:
    """A company served on a socket for the group."""

    residence: ServerFixture
    server: "subprocess.Popen[str]"
    url: str


@pytest.fixture(scope="module")
def company(people: People) -> Iterator[Company]:
    place = Path(mkdtemp(prefix="popug-users-", dir="/tmp"))
    place.chmod(0o755)
    residence = create_home(place / "home")
    (place / "home").chmod(0o700)
    (place / "run").mkdir()
    (place / "run").chmod(0o755)  # with any umask
    for each in (place / "home", place / "run", *(place / "home").rglob("*")):
        shutil.chown(each, people.owner, people.owner)
    socket = place / "run" / "popug.sock"
    options = ["serve", "--json", "--home", str(place / "home"), "--socket", str(socket), "--group", people.group]
    server = people.start(people.owner, "-m", "popug_cli", *options)
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), server.communicate()[1]
        yield Company(residence, server, f"unix://{socket}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_SECONDS)
        shutil.rmtree(place)


def test_socket_is_open_to_its_group_only(people: People, company: Company) -> None:
    found = Path(company.url.removeprefix("unix://")).stat()
    assert oct(found.st_mode)[-3:] == "660"
    done = people.run(people.outsider, "-m", "popug_cli", "--server", company.url, "permissions", "--json")
    assert done.returncode == 8, done.stdout + done.stderr


def test_employee_can_work(people: People, company: Company) -> None:
    token = company.residence.tokens["kesha"]
    arguments = ("-m", "popug_cli", "--server", company.url, "task", "add", "Feed the cage", "--json")
    done = people.run(people.employee, *arguments, POPUG_TOKEN=token)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["creator"] == "kesha"


@pytest.mark.parametrize("name", ["popug.db", "popug.db-wal", "keys", "keys/signing", "config.toml", "popug.sock"])
def test_employee_can_read_nothing_of_the_company(people: People, company: Company, name: str) -> None:
    path = company.residence.home.root / name
    code = f"import os; os.stat({str(path)!r})"
    done = people.run(people.employee, "-c", code)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


def test_employee_cannot_act_as_the_operator(people: People, company: Company) -> None:
    home = str(company.residence.home.root)
    done = people.run(people.employee, "-m", "popug_cli", "--home", home, "doctor", "--json")
    assert done.returncode not in {0, 1}, done.stdout + done.stderr
    over = people.run(people.employee, "-m", "popug_cli", "--server", company.url, "--home", home, "doctor", "--json")
    assert over.returncode not in {0, 1}, over.stdout + over.stderr


FORGE = """
import sys, jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
given = sys.argv[1]
claims = jwt.decode(given, options={"verify_signature": False}) | {"role": "admin", "username": "ada"}
print(jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA", jwt.get_unverified_header(given)))
"""


def test_employee_cannot_forge_a_token(people: People, company: Company) -> None:
    forged = people.run(people.employee, "-c", FORGE, company.residence.tokens["kesha"])
    assert forged.returncode == 0, forged.stderr
    arguments = ("-m", "popug_cli", "--server", company.url, "whoami", "--json")
    done = people.run(people.employee, *arguments, POPUG_TOKEN=forged.stdout.strip())
    assert done.returncode == 4
    assert json.loads(done.stderr)["error"]["code"] == "token_invalid"
