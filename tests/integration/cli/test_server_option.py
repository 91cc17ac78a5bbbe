"""The backend of a command line: a named server, the server that holds the home, or the home itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from popug_cli.cli.main import run
from tests.support.fake_server import ADA, SESSION, STREAM, TASK, FakeServer, Reply, answer, events, problem, saying

NOBODY_ELSE = 65534
HEAVY = {
    *("sqlmodel", "sqlalchemy", "sqlite3", "alembic", "pydantic", "jwt", "cryptography", "argon2", "jinja2"),
    *("uvicorn", "h11", "http.client", "http", "urllib.request", "httpx", "requests", "ssl", "email"),
    *("asyncio", "concurrent.futures", "rich", "importlib.metadata"),
}
LIST_MODULES = """
import sys
from popug_cli.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write("\\nMODULES " + " ".join(sorted(sys.modules)))
sys.exit(code)
"""


@dataclass
class Desk:
    """The machine of a user: a home, a session file, and the output of a command line."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def sessions(self) -> dict[str, str]:
        file = self.folder / "session.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def remember(self, **sessions: str) -> None:
        file = self.folder / "session.json"
        file.write_text(json.dumps(sessions))
        file.chmod(0o600)

    def serve(self, *replies: Reply, name: str = "far.sock") -> FakeServer:
        return FakeServer(self.folder / name, replies)

    def hold_home(self, *replies: Reply) -> FakeServer:
        self.home.mkdir(mode=0o700, exist_ok=True)
        return FakeServer(self.home / "popug.sock", replies)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run([*arguments])
        return code, *self.capture.readouterr()

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code of a command that fails, and the code of its error."""
        code, out, err = self.run(*arguments, "--json")
        assert out == ""
        return code, json.loads(err)["error"]["code"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    for name in [name for name in os.environ if name.startswith("POPUG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POPUG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    mask = os.umask(0)
    yield Desk(tmp_path, capsys)
    os.umask(mask)


def test_server_is_named_by_option_or_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.serve(answer(ADA)) as server:
        assert desk.run("--server", server.url, "whoami") == (0, "ada, admin, ada@popug.example\n", "")
        assert desk.run("whoami", "--server", server.url)[0] == 0
        monkeypatch.setenv("POPUG_SERVER", server.url)
        assert desk.run("whoami")[0] == 0
        assert desk.fail("whoami", "--server", f"unix://{desk.folder}/none.sock") == (8, "server_unavailable")
        assert len(server.asked) == 3


def test_json_is_the_servers_and_text_uses_company_time(desk: Desk) -> None:
    with desk.serve(answer(TASK)) as server:
        code, out, _ = desk.run("task", "complete", "1", "--server", server.url, "--json")
        assert (code, json.loads(out)) == (0, TASK)
    with desk.serve(answer(SESSION), name="other.sock") as server:
        desk_input(b"seven cages under nine moons\n")
        code, out, _ = desk.run("login", "ada", "--password-stdin", "--server", server.url)
        assert "ada (admin) is logged in until 2026-03-02 22:00." in out


def test_each_server_has_its_own_session(desk: Desk) -> None:
    desk.remember(**{str(desk.home): "home.token"})
    with desk.serve(answer(SESSION), answer(ADA), answer({})) as server:
        url = server.url.replace("unix://", "UNIX:")
        desk_input(b"seven cages under nine moons\n")
        assert desk.run("login", "ada", "--password-stdin", "--server", url, "--json")[0] == 0
        device = {f"device ada {server.url}": "d.e.f"}
        assert desk.sessions == {str(desk.home): "home.token", server.url: "a.b.c"} | device
        desk.run("whoami", "--server", url)
        desk.run("logout", "--server", url)
        assert [asked.fields.get("Authorization") for asked in server.asked] == [None, "Bearer a.b.c", "Bearer a.b.c"]
        assert desk.sessions == {str(desk.home): "home.token"} | device


def test_local_server_is_found_and_gets_session_of_the_home(desk: Desk) -> None:
    desk.remember(**{str(desk.home): "home.token"})
    with desk.hold_home(answer(ADA)) as server:
        assert desk.run("whoami")[0] == 0
        assert [asked.fields["Authorization"] for asked in server.asked] == ["Bearer home.token"]
        assert server.connections == 1


def test_socket_without_a_listener_is_not_a_server(desk: Desk) -> None:
    with desk.hold_home(answer(ADA)):
        pass
    assert (desk.home / "popug.sock").is_socket()
    assert desk.fail("whoami") == (3, "not_initialised")
    (desk.home / "popug.sock").unlink()
    (desk.home / "popug.sock").write_text("no socket")
    assert desk.fail("whoami") == (3, "not_initialised")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_socket_of_another_user_gets_no_request(desk: Desk) -> None:
    with desk.hold_home(answer(ADA)) as server:
        os.chown(desk.home / "popug.sock", NOBODY_ELSE, NOBODY_ELSE)
        assert desk.fail("whoami") == (3, "not_initialised")
        assert f"uid {NOBODY_ELSE}" in desk.run("whoami")[2]
        assert server.asked == []


def test_socket_of_a_long_path_is_found(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from popug_cli.kernel.home import Home

    deep = desk.folder / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setenv("POPUG_HOME", str(deep))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(desk.folder))
    with FakeServer(Home(deep).socket, [answer(ADA)]) as server:
        assert desk.run("whoami")[0] == 0
        assert len(server.asked) == 1


def test_operator_commands_never_use_a_server(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.serve(answer(ADA)) as server:
        for command in (("doctor",), ("ledger", "verify"), ("backup",), ("config", "show"), ("scheduler", "--once")):
            assert desk.fail(*command, "--server", server.url) == (3, "not_initialised")
        code, _, err = desk.run("doctor", "--server", server.url)
        assert (code, "never over a server" in err) == (3, True)
        monkeypatch.setenv("POPUG_SERVER", server.url)
        desk_input(b"seven cages under nine moons\n")
        code, out, _ = desk.run("init", "--admin", "ada", "--email", "a@b.example", "--password-stdin", "--json")
        assert (code, json.loads(out)["home"]) == (0, str(desk.home))
        assert server.asked == []
        assert desk.sessions.keys() == {str(desk.home), f"device ada {desk.home}"}


@pytest.mark.parametrize("url", ["", "localhost:8020", "ftp://popug", "http://popug/path"])
def test_invalid_server_address_is_refused(desk: Desk, url: str) -> None:
    expected = (2, "invalid_server") if url else (3, "not_initialised")
    assert desk.fail("whoami", "--server", url) == expected


def test_refusal_of_the_server_is_shown_like_a_local_one(desk: Desk) -> None:
    refused = problem("not_your_task", 5, 403, hint="See.", details={"assignee": "gosha"})
    with desk.serve(refused) as server:
        code, out, err = desk.run("task", "complete", "1", "--server", server.url)
        assert (code, out, err) == (5, "", "error: It is so.\n  See.\n")
        code, _, err = desk.run("task", "complete", "1", "--server", server.url, "--json")
        body = {"code": "not_your_task", "message": "It is so.", "hint": "See.", "details": {"assignee": "gosha"}}
        assert (code, json.loads(err)) == (5, {"error": body})


def test_refusal_without_login_suggests_login_with_server(desk: Desk) -> None:
    refused = problem("not_logged_in", 4, 401, hint="Run `popug login NAME`.")
    with desk.serve(refused) as server:
        _, _, err = desk.run("whoami", "--server", server.url)
        assert f"Run `popug login NAME --server {server.url}`." in err


def test_password_over_plain_http_is_warned_about(desk: Desk) -> None:
    desk_input(b"seven cages under nine moons\n")
    code, _, err = desk.run("login", "ada", "--password-stdin", "--server", "http://popug.invalid")
    assert (code, "others can read your password" in err) == (8, True)


def test_logout_over_a_broken_connection_ends_the_session(desk: Desk) -> None:
    with desk.serve(b"", problem("token_revoked", 4, 401)) as server:
        desk.remember(**{server.url: "a.b.c"})
        assert desk.run("logout", "--server", server.url)[0] == 0
        assert desk.sessions == {}


def test_invalid_bytes_are_refused_before_a_request_is_sent(desk: Desk) -> None:
    with desk.serve(answer(TASK)) as server:
        assert desk.fail("task", "add", "bad \udcff", "--server", server.url)[0] == 2
        assert server.asked == []


def test_events_are_followed_until_the_server_ends(desk: Desk) -> None:
    with desk.serve(answer({"events": []}), saying(STREAM + events(7, 8)), problem("token_expired", 4, 401)) as server:
        code, out, err = desk.run("events", "follow", "--server", server.url, "--json")
        assert [json.loads(line)["sequence"] for line in out.splitlines()] == ["7", "8"]
        assert (code, json.loads(err)["error"]["code"]) == (4, "token_expired")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task", "add", "Feed the cage"], answer(TASK)),
        (["task", "complete", "1", "--json"], answer(TASK)),
        (["whoami"], answer(ADA)),
        (["task", "complete", "1"], problem("not_your_task", 5, 403)),
    ],
)
def test_client_loads_nothing_heavy(desk: Desk, arguments: list[str], said: bytes) -> None:
    """The test looks at the modules of the finished process, not at a clock."""
    with desk.hold_home(said) as server:
        done = subprocess.run(
            [sys.executable, "-c", LIST_MODULES, *arguments], capture_output=True, text=True, check=False
        )
        assert [asked.target for asked in server.asked if "balance" not in asked.target] == [server.asked[0].target]
    modules = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "popug_cli.client.remote_backend" in modules, "this looks at the wrong process"
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert modules & (HEAVY - {*bare.stdout.split()}) == set()  # a Python under coverage starts with more
    assert not {name for name in modules if name.startswith(("popug_cli.storage", "popug_cli.bus", "popug_cli.tasks"))}


def desk_input(typed: bytes) -> None:
    """Replace stdin with these bytes."""
    read, write = os.pipe()
    os.write(write, typed)
    os.close(write)
    sys.stdin = os.fdopen(read)


@pytest.fixture(autouse=True)
def _stdin_again() -> Iterator[None]:
    before: Any = sys.stdin
    yield
    sys.stdin = before
