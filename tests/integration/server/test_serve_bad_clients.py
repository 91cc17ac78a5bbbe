"""Clients that are slow, broken, greedy or hostile: each is refused or disconnected; other clients are served."""

import http.client
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import self_signed
from tests.support.running_server import JSON, PATIENCE_SECONDS, RunningServer, connect, create_home, eventually
from tests.support.server_fixture import ServerFixture

MOST_CONNECTIONS = 40
SHORT = f"""
from popug_cli.server import request_limits, connection_limits, requests, run
connection_limits.HEADER_TIMEOUT_SECONDS = 0.5
connection_limits.KEEP_ALIVE_TIMEOUT_SECONDS = run.KEEP_ALIVE_TIMEOUT_SECONDS = 0.5
request_limits.BODY_TIMEOUT_SECONDS = 1.5
request_limits.SEND_TIMEOUT_SECONDS = 0.5
run.MAX_CONNECTIONS = {MOST_CONNECTIONS}
request_limits.MAX_MESSAGE_BYTES = 200_000
request_limits.SMALL_BODY_BYTES = 50_000
connection_limits.UNREAD_TIMEOUT_SECONDS = 0.5
requests.MAX_OBJECTS = 1_000
"""
WRONG_TOKENS = 1_000
HEAD = b"POST /v1/tasks/add_task HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LOGIN = HEAD.replace(b"tasks/add_task", b"identity/log_in")
IMPORT = HEAD.replace(b"add_task", b"import_tasks")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("bad") / "home")


@pytest.fixture(scope="module")
def server(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, patch=SHORT) as found:
        yield found
        assert found.end() == 0
        assert found.err == ""


@pytest.fixture
def served(server: RunningServer, company: ServerFixture) -> Iterator[RunningServer]:
    """Check that the server still serves other clients after each test."""
    yield server
    eventually(lambda: is_ready(server))
    assert server.post("tasks/add_task", {"title": "Still here"}, company.tokens["kesha"]).status == 200


def is_ready(served: RunningServer) -> bool:
    try:
        return served.request("GET", "/readyz").status == 200
    except ConnectionError:  # refused before it has sent a request
        return False


def token_line(company: ServerFixture) -> bytes:
    return f"Authorization: Bearer {company.tokens['kesha']}\r\n".encode()


def send_without_end(client: socket.socket, piece: bytes) -> None:
    """Send until the server closes; fail if it accepts for a minute what it should refuse."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        client.sendall(piece)


def all_of(client: socket.socket) -> bytes:
    """Return everything received until the server closes."""
    found = b""
    try:
        while part := client.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def code_of(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"popug-version: " in head
    assert b"application/problem+json" in head
    return f"{head.split()[1].decode()} {json.loads(body)['code']}"


def test_silent_client_times_out(served: RunningServer) -> None:
    with connect(served) as client:
        assert code_of(all_of(client)) == "408 usage"


def test_slow_headers_time_out(served: RunningServer) -> None:
    with connect(served) as client:
        client.sendall(HEAD)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        client.settimeout(0.1)
        found, is_left = b"", False
        while time.monotonic() < give_up_at and not is_left:
            try:
                client.sendall(b"X-Slow: 1\r\n")
                found = client.recv(10_000)
                is_left = True
            except TimeoutError:
                continue
            except ConnectionError:
                is_left = True
        assert is_left
        assert not found or code_of(found) == "408 usage"


@pytest.mark.parametrize("head", [HEAD, LOGIN], ids=["token", "login"])
def test_slow_body_times_out(served: RunningServer, company: ServerFixture, head: bytes) -> None:
    with connect(served) as client:
        client.sendall(head + token_line(company) + b"Content-Length: 100\r\n\r\n{")
        assert code_of(all_of(client)) == "408 usage"


def test_body_in_tiny_chunks_is_refused(served: RunningServer) -> None:
    with connect(served) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1_500)
        answer = all_of(client)
        assert code_of(answer) == "400 usage"
        assert b"The chunks of the body are too small." in answer


def test_second_request_has_the_same_time_limit(served: RunningServer) -> None:
    with connect(served) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(10_000).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /heal")
        all_of(client)  # raises TimeoutError if the server keeps waiting


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"GARBAGE\r\n\r\n", b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n"]
)
def test_garbage_is_refused(served: RunningServer, garbage: bytes) -> None:
    with connect(served) as client:
        client.sendall(garbage)
        assert code_of(all_of(client)) in {"400 usage", "404 route_not_found", "408 usage"}


def test_huge_headers_are_refused(served: RunningServer) -> None:
    with connect(served) as client:
        try:
            client.sendall(HEAD + b"X-Huge: " + b"x" * 1_000_000)
        except ConnectionError:
            return
        assert code_of(all_of(client)) == "431 usage"


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (HEAD + b"X-Large: " + b"x" * 33_000 + b"\r\n\r\n", "431 usage"),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "414 usage"),
        (HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", "400 usage"),
        (HEAD + b"Idempotency-Key: a\r\nidempotency-key: a\r\n\r\n", "400 usage"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "415 usage"),
    ],
    ids=["large head", "long address", "two tokens", "two keys", "packed"],
)
def test_head_that_is_too_large_or_ambiguous_is_refused(served: RunningServer, said: bytes, refusal: str) -> None:
    with connect(served) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert code_of(all_of(client)) == refusal


@pytest.mark.parametrize("how", ["announced", "chunked"])
def test_body_that_is_too_large_is_refused(served: RunningServer, company: ServerFixture, how: str) -> None:
    with connect(served) as client:
        line = token_line(company)
        if how == "announced":
            client.sendall(HEAD + b"Content-Length: 99999999999999999999\r\n\r\n")
        else:
            client.sendall(IMPORT + line + b"Transfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(30):
                    client.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            except ConnectionError:
                return
        assert code_of(all_of(client)) == "413 usage"


@pytest.mark.parametrize(("token", "refusal"), [("", "401 not_logged_in"), ("no.good.token", "401 token_invalid")])
def test_large_body_refused_without_a_valid_token(served: RunningServer, token: str, refusal: str) -> None:
    line = f"Authorization: Bearer {token}\r\n".encode() if token else b""
    with connect(served) as client:
        client.sendall(IMPORT + line + b"Content-Length: 150000\r\n\r\n" + b" " * 100_000)
        assert code_of(all_of(client)) == refusal


def test_large_body_with_token_accepted_for_imports_only(served: RunningServer, company: ServerFixture) -> None:
    answer = served.post("tasks/import_tasks", {"lines": [{"title": "x" * 150_000}]}, company.tokens["kesha"])
    assert (answer.status, answer.document["code"]) == (422, "invalid_title")
    answer = served.post("tasks/add_task", {"title": "x" * 5_000_000}, company.tokens["kesha"])
    assert (answer.status, answer.document["detail"]) == (413, "The body is larger than 50,000 bytes.")


@pytest.mark.parametrize("head", [HEAD, LOGIN], ids=["token", "login"])
def test_client_that_keeps_sending_is_disconnected(served: RunningServer, company: ServerFixture, head: bytes) -> None:
    with connect(served) as client:
        client.sendall(head + token_line(company) + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_without_end(client, b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert code_of(all_of(client)) == "413 usage"


def test_import_of_more_than_1000_lines_is_refused(served: RunningServer, company: ServerFixture) -> None:
    answer = served.post("tasks/import_tasks", {"lines": [{"title": "x"}] * 1_001}, company.tokens["kesha"])
    assert (answer.status, answer.document["detail"]) == (413, "The body contains more than 1,000 objects.")


def test_client_gone_before_the_answer_does_no_harm(served: RunningServer, company: ServerFixture) -> None:
    token = company.tokens["kesha"].encode()
    body = b'{"title": "Half closed"}'
    for _ in range(20):
        client = connect(served)
        client.sendall(HEAD + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token, len(body), body))
        client.close()


def test_half_closed_client_is_answered(served: RunningServer) -> None:
    with connect(served) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert all_of(client).startswith(b"HTTP/1.1 200")


def test_client_half_closed_after_commands_is_answered(served: RunningServer, company: ServerFixture) -> None:
    token = company.tokens["kesha"].encode()
    body = b'{"title": "Half said"}'
    whole = HEAD + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token, len(body), body)
    with connect(served) as client:
        client.sendall(whole * 2)
        client.shutdown(socket.SHUT_WR)
        assert all_of(client).count(b"HTTP/1.1 200") == 2
    with connect(served) as client:
        client.sendall(whole[:-1])
        client.shutdown(socket.SHUT_WR)
        assert all_of(client) == b""


def test_clients_without_tls_handshake_block_no_others(company: ServerFixture, tmp_path: Path) -> None:
    home = shutil.copytree(company.home.root, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    file = str(self_signed(tmp_path / "server.pem"))
    patch = f"{SHORT}\nrun.GRACE_SECONDS = 600\n"
    with RunningServer(home, "--listen", "localhost:0", "--tls-cert", file, "--tls-key", file, patch=patch) as served:
        silent = [socket.create_connection(("localhost", served.port)) for _ in range(60)]
        assert served.request("GET", "/healthz").status == 200
        began = time.monotonic()
        for client in silent:
            client.settimeout(PATIENCE_SECONDS)
            all_of(client)
            client.close()
        assert time.monotonic() - began < 30, "silent clients are disconnected long before asyncio would do so"
        trusting = ssl.create_default_context(cafile=file)
        connection = http.client.HTTPSConnection("localhost", served.port, timeout=PATIENCE_SECONDS, context=trusting)
        for _ in range(2):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"ok"}'
        began = time.monotonic()
        assert (served.end(), served.err) == (0, "")
        assert time.monotonic() - began < 25, "an idle client that does not close is disconnected"
        connection.close()


def test_client_that_does_not_read_is_disconnected(served: RunningServer, company: ServerFixture) -> None:
    token = company.tokens["ada"].encode()
    ask = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % token
    with connect(served) as client:
        client.settimeout(1)
        try:
            for _ in range(200):
                client.sendall(ask)
        except (TimeoutError, ConnectionError):
            pass


@pytest.mark.parametrize(
    ("requests", "last"), [(5, b""), (5, b"Connection: close\r\n"), (50, b"")], ids=["some", "closed", "many"]
)
def test_clients_that_never_read_free_their_connections(served: RunningServer, requests: int, last: bytes) -> None:
    ask = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n"
    clients = [connect(served) for _ in range(MOST_CONNECTIONS)]
    for client in clients:
        client.sendall((ask + b"\r\n") * (requests - 1) + ask + last + b"\r\n")
    eventually(lambda: is_ready(served))
    for client in clients:
        client.close()


def test_connections_over_the_limit_are_refused(served: RunningServer) -> None:
    clients = [connect(served) for _ in range(60)]
    try:
        answers = [all_of(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    refusals = [code_of(answer) for answer in answers if answer]
    assert "503 server_unavailable" in refusals


def test_connections_are_limited_by_open_file_limit(company: ServerFixture, tmp_path: Path) -> None:
    home = shutil.copytree(company.home.root, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    patch = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))\n" + SHORT
    with RunningServer(home, patch=patch) as served:
        clients = [connect(served) for _ in range(30)]
        answers = [all_of(client) for client in clients]
        for client in clients:
            client.close()
        assert {code_of(answer) for answer in answers if answer} == {"503 server_unavailable", "408 usage"}
        assert served.post("tasks/add_task", {"title": "Room again"}, company.tokens["kesha"]).status == 200
        assert (served.end(), served.err) == (0, "")


def test_valid_token_is_served_during_a_thousand_wrong_ones(served: RunningServer, company: ServerFixture) -> None:
    statuses: list[int] = []

    def guess(path: Path) -> None:
        from tests.support.running_server import UnixConnection

        connection = UnixConnection(path)
        for number in range(WRONG_TOKENS // 4):
            token = f"{company.tokens['kesha'][:-8]}{number:08}"
            connection.request("POST", "/v1/tasks/list_tasks", b"{}", JSON | {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=guess, args=(served.socket,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert served.post("tasks/list_tasks", {}, company.tokens["kesha"]).status == 200
    assert statuses == [401] * WRONG_TOKENS


def test_many_pipelined_requests_are_answered(served: RunningServer) -> None:
    with connect(served) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        client.shutdown(socket.SHUT_WR)
        assert all_of(client).count(b"HTTP/1.1 200") == 50


def test_upgrade_request_is_ignored(served: RunningServer) -> None:
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = connect(served)
    connection.request("GET", "/healthz", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert connection.getresponse().status == 200
    connection.close()
