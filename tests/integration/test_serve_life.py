"""The life of a server: how it begins, holds its home, and ends, gracefully or not."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import Local
from popug_cli.kernel.home import Home
from popug_cli.messages.company import BackUp, Restore
from tests.integration.residence import Residence
from tests.integration.served import Answer, Served, eventually, founded

SLOW_WRITES = """
import time
from popug_cli.bus.publisher import Publisher
end_run = Publisher.end_run
def slow(self):
    time.sleep({seconds})
    return end_run(self)
Publisher.end_run = slow
"""


@pytest.fixture
def company(tmp_path: Path) -> Residence:
    return founded(tmp_path / "home")


def popug(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "popug_cli", *arguments, "--json", "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def numbers_of_tasks(residence: Residence) -> list[int]:
    return [row["number"] for row in residence.rows("SELECT number FROM tasks_tasks ORDER BY number")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to_and_leaves_no_socket(company: Residence, number: int) -> None:
    with Served(company.home.root) as served:
        found = served.socket.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert served.started["home"] == str(company.home.root)
        assert served.end(number) == 0
        assert served.err == ""
        assert not served.socket.exists()


def test_it_finishes_what_has_begun_and_takes_nothing_new(company: Residence) -> None:
    answers: list[Answer] = []
    token = company.tokens["kesha"]
    with Served(company.home.root, patch=SLOW_WRITES.format(seconds=0.4)) as served:
        adding = threading.Thread(
            target=lambda: answers.append(served.post("tasks/add_task", {"title": "Begun"}, token))
        )
        adding.start()
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: not served.socket.exists())
        with pytest.raises((FileNotFoundError, ConnectionError)):
            served.post("tasks/add_task", {"title": "New"}, token)
        assert served.wait() == 0
        adding.join()
    assert [each.status for each in answers] == [200]
    assert numbers_of_tasks(company) == [1]


def test_what_never_ends_is_left_undone_in_the_end(company: Residence) -> None:
    patch = SLOW_WRITES.format(seconds=60) + "from popug_cli.server import running\nrunning.GRACE_SECONDS = 1\n"
    with Served(company.home.root, patch=patch) as served:
        answers: list[Answer] = []
        sent = threading.Thread(
            target=lambda: answers.append(served.post("tasks/add_task", {"title": "Never"}, company.tokens["kesha"]))
        )
        sent.start()
        time.sleep(0.3)
        began = time.monotonic()
        assert served.end() == 0
        assert time.monotonic() - began < 10
        sent.join()
        assert [(each.status, each.document["code"]) for each in answers] == [(503, "in_doubt")]
        assert not served.socket.exists()
    assert numbers_of_tasks(company) == []


def test_the_socket_of_a_killed_server_is_taken_over(company: Residence) -> None:
    with Served(company.home.root) as first:
        first.end(signal.SIGKILL)
        assert first.socket.exists()
    with Served(company.home.root) as second:
        assert second.request("GET", "/healthz").status == 200
        assert second.end() == 0


def test_a_second_server_is_refused_and_does_the_first_no_harm(company: Residence) -> None:
    with Served(company.home.root) as first:
        second = popug(company.home.root, "serve")
        assert second.returncode == 8
        error = json.loads(second.stderr)["error"]
        assert error["code"] == "server_unavailable"
        assert error["details"]["process"] == first.process.pid
        assert first.request("GET", "/healthz").status == 200


def test_a_company_that_was_replaced_is_served_no_more(company: Residence, tmp_path: Path) -> None:
    operator = Local(Home(company.home.root))
    backup = operator.perform(BackUp(path=str(tmp_path / "backup.zip")))
    with Served(company.home.root) as served:
        operator.perform(Restore(path=backup.path))
        operator.close()
        assert served.wait() == 8
        assert json.loads(served.err)["error"]["code"] == "server_unavailable"
        assert "replaced" in json.loads(served.err)["error"]["message"]


def test_nothing_is_served_where_there_is_no_company(tmp_path: Path) -> None:
    done = popug(tmp_path / "nowhere", "serve")
    assert done.returncode == 3
    assert json.loads(done.stderr)["error"]["code"] == "not_initialised"
    assert not (tmp_path / "nowhere").exists()


def test_a_setting_that_is_changed_holds_for_the_next_request(company: Residence) -> None:
    with Served(company.home.root) as served:
        company.home.config.write_text("[bus\n")
        answer = served.post("tasks/list_tasks", {}, company.tokens["kesha"])
        assert (answer.status, answer.document["code"]) == (422, "invalid_setting")
        company.home.config.write_text("")
        assert served.post("tasks/list_tasks", {}, company.tokens["kesha"]).status == 200


def test_another_socket_may_be_listened_on_but_not_one_in_the_home(company: Residence, tmp_path: Path) -> None:
    outside = tmp_path / "outside.sock"
    with Served(company.home.root, "--socket", str(outside)) as served:
        assert served.urls == [f"unix://{served.socket}", f"unix://{outside}"]
        assert stat.S_IMODE(outside.stat().st_mode) == 0o600
        assert served.end() == 0
    assert not outside.exists()
    inside = popug(company.home.root, "serve", "--socket", str(company.home.root / "other.sock"))
    assert inside.returncode == 2


def test_a_file_that_is_no_socket_is_left_alone(company: Residence, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = popug(company.home.root, "serve", "--socket", str(tmp_path / "file"))
    assert done.returncode == 2
    assert (tmp_path / "file").read_text() == "mine"
    assert not (company.home.root / "popug.sock").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "0.0.0.0:0"),
        ("--listen", "example.com:80"),
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1:99999"),
        ("--group", "root"),
        ("--listen", "127.0.0.1:0", "--tls-cert", "x.pem"),
        ("--listen", "127.0.0.1:0", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"),
        ("--tls-cert", "a", "--tls-key", "b"),
    ],
)
def test_what_would_not_be_safe_or_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    from popug_cli.cli.main import run

    assert run(["serve", "--home", str(tmp_path), "--json", *arguments]) == 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)


def test_a_home_whose_path_is_long_is_served_in_the_runtime_directory(tmp_path: Path) -> None:
    company = founded(tmp_path / ("long" * 20) / ("longer" * 10))
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    with Served(company.home.root, environment={"XDG_RUNTIME_DIR": str(runtime)}) as served:
        path = Path(served.urls[0].removeprefix("unix://"))
        assert path.parent == runtime
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        assert served.end() == 0
        assert list(runtime.iterdir()) == []


def test_a_socket_that_systemd_opened_is_served_and_left(company: Residence, tmp_path: Path) -> None:
    path, told = tmp_path / "given.sock", tmp_path / "notify"
    code = (
        "import os, socket, sys\n"
        f"listening = socket.socket(socket.AF_UNIX); listening.bind({str(path)!r}); listening.listen()\n"
        "os.dup2(listening.fileno(), 3); os.set_inheritable(3, True)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "from popug_cli.cli.main import run\n"
        f"sys.exit(run(['serve', '--json', '--home', {str(company.home.root)!r}]))\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(told))
        heard.settimeout(60)
        environment = os.environ | {"NOTIFY_SOCKET": str(told)}
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        assert heard.recv(100) == b"READY=1"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        assert heard.recv(100) == b"STOPPING=1"
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert path.exists()


def test_with_the_scheduler_it_closes_days_by_itself(company: Residence) -> None:
    with Served(company.home.root, "--scheduler") as served:
        eventually(lambda: company.rows("SELECT * FROM storage_heartbeats WHERE name = 'scheduler'"))
        assert served.end() == 0


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
