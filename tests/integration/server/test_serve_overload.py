"""Many clients without a token: each is answered or refused early, and the others are served."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from popug_cli.messages.identity import LogIn, SetPassword
from tests.support.running_server import JSON, PATIENCE_SECONDS, Answer, RunningServer, create_home, eventually
from tests.support.server_fixture import PASSWORD, ServerFixture

SLOW_HASH_SECONDS = 0.2
SLOW_HASHES = f"""
import time
from popug_cli.identity import passwords
compare = passwords.compare_ahead
passwords.compare_ahead = lambda *given: (time.sleep({SLOW_HASH_SECONDS}), compare(*given))[1]
"""
FLOOD = 300
IDLE = 1_000
BODY_BYTES = 1_000_000
SOON_SECONDS = 10  # ten times what it takes, and a sixth of what 300 password checks take
POST = b"POST /v1/%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    residence = create_home(tmp_path_factory.mktemp("overload") / "home")
    session = residence.local.perform(LogIn(username="ada", password=PASSWORD)).token
    residence.local.perform(SetPassword(username="kesha", password=PASSWORD), session)
    residence.local.close()
    return residence


@pytest.fixture(scope="module")
def server(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0", patch=SLOW_HASHES) as found:
        yield found
        assert found.end() == 0


def log_in(server: RunningServer, password: str = PASSWORD, **more: str) -> Answer:
    return server.post("identity/log_in", {"username": "kesha", "password": password} | more)


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def memory_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def guess_over_tcp(server: RunningServer, name: str, statuses: list[int]) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/v1/identity/log_in", json.dumps({"username": name, "password": "wrong guess"}), JSON)
    statuses.append(connection.getresponse().status)
    connection.close()


def test_logins_succeed_during_300_login_connections(server: RunningServer, company: ServerFixture) -> None:
    device_token = log_in(server).document["device_token"]
    statuses: list[int] = []
    flood = [
        threading.Thread(target=guess_over_tcp, args=(server, f"ghost-{number}", statuses)) for number in range(FLOOD)
    ]
    began = time.monotonic()
    for thread in flood:
        thread.start()
    known = log_in(server, device_token=device_token)
    unknown_at_home = log_in(server)
    assert time.monotonic() - began < SOON_SECONDS
    for thread in flood:
        thread.join()
    assert time.monotonic() - began < FLOOD * SLOW_HASH_SECONDS / 2, "most are refused without a password check"
    assert (known.status, unknown_at_home.status) == (200, 200)
    assert set(statuses) == {401, 429}
    assert statuses.count(401) < FLOOD / 3


def test_logins_of_many_devices_are_limited(server: RunningServer) -> None:
    device_token = log_in(server).document["device_token"]
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(log_in(server, "wrong guess", device_token=device_token)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert {answer.document["code"] for answer in refused} == {"too_many_attempts"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_many_devices_of_one_user_shut_out_no_other(server: RunningServer) -> None:
    def log_in_as(name: str, password: str, **more: str) -> Answer:
        return server.post("identity/log_in", {"username": name, "password": password} | more)

    def guess_until_stopped(device_token: str) -> None:
        while not stop.is_set():
            guesses.append(log_in_as("kesha", "wrong guess", device_token=device_token).status)

    own_device = log_in_as("ada", PASSWORD).document["device_token"]
    devices = [log_in(server).document["device_token"] for _ in range(20)]
    stop, guesses = threading.Event(), list[int]()
    threads = [threading.Thread(target=guess_until_stopped, args=(token,)) for token in devices]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: 429 in guesses)  # the guesses have reached their limit
        statuses = [log_in_as("ada", PASSWORD, device_token=own_device).status for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 3


def test_known_device_logs_in_during_guesses_by_others(server: RunningServer) -> None:
    device_token = log_in(server).document["device_token"]
    statuses = [log_in(server, "wrong guess").status for _ in range(9)]
    assert statuses[:6] == [401] * 6
    assert 429 in statuses
    assert log_in(server, device_token=device_token).status == 200
    assert log_in(server, device_token=device_token[:-9]).status in {200, 429}  # 200 once the lockout is over


def test_idle_connections_shut_out_no_one(server: RunningServer) -> None:
    idle = []
    try:
        idle += [connect(server) for _ in range(IDLE)]
        began = time.monotonic()
        assert server.request("GET", "/healthz").status == 200
        with connect(server) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < SOON_SECONDS
    finally:
        for client in idle:
            client.close()


@pytest.mark.parametrize("route", [b"tasks/add_task", b"tasks/import_tasks", b"identity/log_in", b"nowhere"])
@pytest.mark.parametrize("framing", [b"Content-Length: %d", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_unfinished_bodies_take_no_memory(server: RunningServer, route: bytes, framing: bytes) -> None:
    is_chunked = b"chunked" in framing
    head = POST % route + (framing if is_chunked else framing % BODY_BYTES) + b"\r\n\r\n"
    start = b"%x\r\n" % BODY_BYTES if is_chunked else b""
    before = memory_bytes(server)
    clients = [connect(server) for _ in range(FLOOD)]
    try:
        for client in clients:
            try:
                client.sendall(head + start + b"x" * (BODY_BYTES - 1))
            except ConnectionError:
                continue
        assert memory_bytes(server) - before < FLOOD * BODY_BYTES / 2
        assert server.request("GET", "/healthz").status == 200
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("route", [b"tasks/add_task", b"tasks/import_tasks"])
def test_unfinished_bodies_of_a_user_take_little_memory(
    server: RunningServer, company: ServerFixture, route: bytes
) -> None:
    token = company.tokens["kesha"].encode()
    head = POST % route + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (token, BODY_BYTES)
    before = memory_bytes(server)
    clients = [connect(server) for _ in range(FLOOD)]
    try:
        for client in clients:
            client.setblocking(False)
            client.sendall(head)
        for _ in range(20):
            for client in clients:
                send_what_fits(client)
            time.sleep(0.05)
        assert memory_bytes(server) - before < FLOOD * BODY_BYTES / 2
        assert server.request("GET", "/healthz").status == 200
        body = {"title": "x" * 20_000}
        assert server.post("tasks/add_task", body, company.tokens["ada"]).status == 422, (
            "another peer has its own slots"
        )
    finally:
        for client in clients:
            client.close()


def send_what_fits(client: socket.socket) -> None:
    with suppress(BlockingIOError, ConnectionError):
        client.send(b"x" * (BODY_BYTES // 20 - 1))


@pytest.mark.parametrize(
    ("route", "token", "status"),
    [
        (b"tasks/add_task", b"", b"401"),
        (b"tasks/add_task", b"polly.wants.crackers", b"401"),
        (b"identity/set_password", b"", b"401"),
        (b"tasks/import_tasks", b"", b"401"),
        (b"identity/log_in", b"", b"413"),
        (b"bus/show_schemas", b"", b"413"),
        (b"nowhere", b"", b"413"),
    ],
)
def test_request_is_refused_before_its_body(server: RunningServer, route: bytes, token: bytes, status: bytes) -> None:
    head = POST % route + (b"Authorization: Bearer " + token + b"\r\n" if token else b"")
    with connect(server) as client:
        client.sendall(head + b"Content-Length: 100000\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("method", [b"POST", b"GET"])
@pytest.mark.parametrize(
    ("query", "more"),
    [
        (b"", b""),
        (b"?" + b"x" * 9_000, b""),
        (b"", b"X-Long: " + b"x" * 33_000 + b"\r\n"),
        (b"", b"Origin: http://127.0.0.1\r\nOrigin: http://other\r\n"),
    ],
    ids=["alone", "long target", "large headers", "duplicate header"],
)
def test_two_lengths_close_the_connection(
    server: RunningServer, company: ServerFixture, method: bytes, query: bytes, more: bytes
) -> None:
    token = company.tokens["kesha"].encode()
    head = POST.replace(b"POST", method) % (b"tasks/list_tasks" + query) + b"Authorization: Bearer " + token + b"\r\n"
    head += more
    lengths = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with connect(server) as client:
        client.sendall(head + lengths + b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while part := client.recv(10_000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


def test_event_stream_is_not_buffered_by_a_proxy(server: RunningServer, company: ServerFixture) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {company.tokens['ada']}"})
    assert connection.getresponse().headers["X-Accel-Buffering"] == "no"
    connection.close()


def test_failed_logins_are_logged_a_few_times(company: ServerFixture, tmp_path: Path) -> None:
    home = shutil.copytree(company.home.root, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    with RunningServer(home, "--listen", "127.0.0.1:0") as server:
        for _ in range(7):
            server.post("identity/log_in", {"username": "mango", "password": "wrong guess"})
        for number in range(30):
            server.post("identity/log_in", {"username": f"ghost{number}\n\x1b[31m", "password": "wrong guess"})
        statuses: list[int] = []
        guess_over_tcp(server, "asya", statuses)
        server.end()
    lines = server.err.splitlines()
    assert sum("A login as mango from user" in line for line in lines) >= 6
    assert any("Logins as mango are refused for 1 s" in line for line in lines)
    assert any("A login as asya from 127.0.0.1 failed." in line for line in lines)
    assert sum("not logged" in line for line in lines) == 1
    assert len(lines) < 40
    assert "ghost" not in server.err
    assert "\x1b" not in server.err
    assert "wrong guess" not in server.err


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("bus/list_events", {"type": "%" * 60_000}),
        ("bus/list_events", {"subject": "x" * 500_000}),
        ("tasks/list_tasks", {"search": "%" * 60_000}),
        ("tasks/list_tasks", {"assignee": "x" * 500_000}),
        ("tasks/list_tasks", {"jira_id": "A-" + "1" * 500_000}),
        ("identity/show_user", {"username": "x" * 500_000}),
        ("mail/show_mail", {"mail_id": "x" * 500_000}),
        ("billing/get_statement", {"username": "x" * 500_000}),
    ],
)
def test_overlong_filter_is_refused_in_a_short_answer(
    server: RunningServer, company: ServerFixture, route: str, message: dict[str, str]
) -> None:
    answer = server.post(route, message, company.tokens["ada"])
    assert 400 <= answer.status < 500
    assert len(answer.body) < 20_000
