"""A server from start to end: it starts, holds its home, and ends, gracefully or not."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.cli.main import run
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.messages.company import BackUp, Restore
from popug_cli.messages.tasks import ListTasks
from tests.support.certificates import self_signed
from tests.support.running_server import Answer, RunningServer, create_home, eventually
from tests.support.server_fixture import ServerFixture

SLOW_WRITES = """
import os, time
from popug_cli.bus.publisher import Publisher
close_link = Publisher.close_link
def slow(self):
    open({begun!r}, "w").close()
    {wait}
    return close_link(self)
Publisher.close_link = slow
"""


@pytest.fixture
def company(tmp_path: Path) -> ServerFixture:
    return create_home(tmp_path / "home")


def popug(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "popug_cli", *arguments, "--json", "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def numbers_of_tasks(residence: ServerFixture) -> list[int]:
    return [row["number"] for row in residence.rows("SELECT number FROM tasks_tasks ORDER BY number")]


def refused(capfd: pytest.CaptureFixture[str], home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the error of a ``serve`` that is refused, run in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = run(["serve", "--home", str(home), "--json", *arguments])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.setswitchinterval(0.005)
    error: dict[str, Any] = json.loads(capfd.readouterr().err)["error"]
    return code, error


def test_server_with_scheduler_closes_days_and_ends_by_sigint(company: ServerFixture) -> None:
    with RunningServer(company.home.root, "--scheduler") as served:
        found = served.socket.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert served.started["home"] == str(company.home.root)
        assert served.events[0]["event"] == "next"
        assert served.events[0]["closes_at"].endswith(":05:00Z")
        eventually(lambda: company.rows("SELECT * FROM storage_heartbeats WHERE name = 'scheduler'"))
        assert served.end(signal.SIGINT) == 0
        assert served.err == ""
        assert not served.socket.exists()


def test_home_has_one_server_and_stale_socket_is_replaced(
    company: ServerFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with RunningServer(company.home.root) as first:
        code, error = refused(capfd, company.home.root)
        assert (code, error["code"]) == (8, "server_unavailable")
        assert error["details"]["process"] == first.process.pid
        assert first.request("GET", "/healthz").status == 200
        first.end(signal.SIGKILL)
        assert first.socket.exists()
    with RunningServer(company.home.root) as second:
        assert second.request("GET", "/healthz").status == 200
        assert second.end() == 0


def test_serve_refused_without_a_company(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capfd, tmp_path / "nowhere")
    assert (code, error["code"]) == (3, "not_initialised")
    assert not (tmp_path / "nowhere").exists()


def test_changed_setting_applies_to_the_next_request(company: ServerFixture) -> None:
    company.open()
    company.home.config.write_text("[bus\n")
    with pytest.raises(InvalidInput) as said:
        company.perform("kesha", ListTasks())
    assert said.value.code == "invalid_setting"
    company.home.config.write_text("[bus]\nmax_attempts = 3\n")
    company.perform("kesha", ListTasks())
    assert company.served_company.open_backend(print).runtime.settings.number("bus.max_attempts") == 3
    company.close()


def test_file_that_is_not_a_socket_is_kept(
    company: ServerFixture, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert refused(capfd, company.home.root, "--socket", str(tmp_path / "file"))[0] == 2
    assert (tmp_path / "file").read_text() == "mine"
    assert not (company.home.root / "popug.sock").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "0.0.0.0:0"),
        ("--listen", "example.com:80"),
        ("--listen", "nonsense"),
        ("--listen", "http://127.0.0.1:80"),
        ("--listen", "127.0.0.1:99999"),
        ("--group", "root"),
        ("--socket", "HOME/other.sock"),
        ("--listen", "127.0.0.1:0", "--tls-cert", "x.pem"),
        ("--listen", "127.0.0.1:0", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"),
        ("--tls-cert", "a", "--tls-key", "b"),
    ],
)
def test_unsafe_or_contradictory_options_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    given = [each.replace("HOME", str(tmp_path)) for each in arguments]
    assert refused(capfd, tmp_path, *given)[0] == 2


def test_socket_option_in_the_home_is_refused_through_a_link(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    code, error = refused(capfd, tmp_path / "home", "--socket", str(tmp_path / "link" / "popug.sock"))
    assert (code, "is in the home" in error["message"]) == (2, True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_tls_key_open_to_others_is_refused(
    company: ServerFixture, tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: int
) -> None:
    file = self_signed(tmp_path / "server.pem")
    file.chmod(mode)
    listening = ("--listen", "localhost:0", "--tls-cert", str(file), "--tls-key", str(file))
    code, error = refused(capfd, company.home.root, *listening)
    assert (code, error["code"], error["details"]) == (4, "insecure_file", {"path": str(file)})
    assert "chmod 600" in error["hint"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_tls_key_of_another_account_is_refused(
    company: ServerFixture, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = self_signed(tmp_path / "server.pem")
    os.chown(file, 12345, -1)
    listening = ("--listen", "localhost:0", "--tls-cert", str(file), "--tls-key", str(file))
    code, error = refused(capfd, company.home.root, *listening)
    assert (code, error["code"]) == (4, "insecure_file")


def test_impossible_host_name_is_unavailable(company: ServerFixture, capfd: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capfd, company.home.root, "--behind-proxy", "--listen", f"{'x' * 64}.example:0")
    assert (code, error["code"]) == (8, "server_unavailable")


def test_long_home_path_is_served_in_runtime_directory(tmp_path: Path) -> None:
    company = create_home(tmp_path / ("long" * 20) / ("longer" * 10))
    runtime, outside = tmp_path / "run", tmp_path / "outside.sock"
    runtime.mkdir(mode=0o700)
    options = ("--socket", str(outside))
    with RunningServer(company.home.root, *options, environment={"XDG_RUNTIME_DIR": str(runtime)}) as served:
        path = Path(served.urls[0].removeprefix("unix://"))
        assert path.parent == runtime
        assert served.urls[1] == f"unix://{outside}"
        assert stat.S_IMODE(outside.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        assert served.end() == 0
        assert list(runtime.iterdir()) == []
        assert not outside.exists()


def test_ending_server_finishes_requests_and_accepts_none(company: ServerFixture) -> None:
    answers: list[Answer] = []
    token = company.tokens["kesha"]
    begun, until_it_ends = company.home.root / "begun", "while os.path.exists({!r}): time.sleep(0.05)"
    wait = until_it_ends.format(str(company.home.root / "popug.sock"))
    with RunningServer(company.home.root, patch=SLOW_WRITES.format(begun=str(begun), wait=wait)) as served:
        adding = threading.Thread(
            target=lambda: answers.append(served.post("tasks/add_task", {"title": "Begun"}, token))
        )
        adding.start()
        eventually(begun.exists)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: not served.socket.exists())
        with pytest.raises((FileNotFoundError, ConnectionError)):
            served.post("tasks/add_task", {"title": "New"}, token)
        assert served.wait() == 0
        adding.join()
    assert [each.status for each in answers] == [200]
    assert numbers_of_tasks(company) == [1]


def test_ending_server_abandons_an_endless_request(company: ServerFixture) -> None:
    begun = company.home.root / "begun"
    patch = SLOW_WRITES.format(begun=str(begun), wait="time.sleep(600)")
    patch += "from popug_cli.server import run\nrun.GRACE_SECONDS = 1\n"
    with RunningServer(company.home.root, patch=patch) as served:
        answers: list[Answer] = []
        sent = threading.Thread(
            target=lambda: answers.append(served.post("tasks/add_task", {"title": "Never"}, company.tokens["kesha"]))
        )
        sent.start()
        eventually(begun.exists)
        assert served.end() == 0
        sent.join()
        assert [(each.status, each.document["code"]) for each in answers] == [(503, "in_doubt")]
        assert not served.socket.exists()
    assert numbers_of_tasks(company) == []


def test_replaced_company_is_not_served_any_more(company: ServerFixture, tmp_path: Path) -> None:
    operator = LocalBackend(Home(company.home.root))
    backup = operator.perform(BackUp(path=str(tmp_path / "backup.zip")))
    with RunningServer(company.home.root) as served:
        operator.perform(Restore(path=backup.path))
        operator.close()
        assert served.wait() == 8
        assert json.loads(served.err)["error"]["code"] == "server_unavailable"
        assert "replaced" in json.loads(served.err)["error"]["message"]


def test_systemd_socket_is_served_and_kept(company: ServerFixture, tmp_path: Path) -> None:
    path, notify_socket = tmp_path / "given.sock", tmp_path / "notify"
    code = (
        "import os, socket, sys\n"
        f"listening = socket.socket(socket.AF_UNIX); listening.bind({str(path)!r}); listening.listen()\n"
        "os.dup2(listening.fileno(), 3); os.set_inheritable(3, True)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "from popug_cli.cli.main import run\n"
        f"sys.exit(run(['serve', '--json', '--home', {str(company.home.root)!r}]))\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(notify_socket))
        receiver.settimeout(60)
        environment = os.environ | {"NOTIFY_SOCKET": str(notify_socket)}
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        assert receiver.recv(100) == b"READY=1"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        assert receiver.recv(100) == b"STOPPING=1"
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert path.exists()


def units() -> dict[str, Any]:
    done = popug(Path("/srv/popug"), "serve", "install", "--systemd", "--group", "staff")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_units_for_systemd_are_printed() -> None:
    files = units()["files"]
    service, listening = files["popug.service"].splitlines(), files["popug.socket"].splitlines()
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ReadWritePaths=/srv/popug", "UMask=0077"} <= set(service)
    assert {"SocketMode=0660", "SocketGroup=staff", "ListenStream=/run/popug/popug.sock"} <= set(listening)
