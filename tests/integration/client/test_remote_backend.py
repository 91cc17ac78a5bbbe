"""The client of a server: its requests, its retries, and the answers that it accepts."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from popug_cli import __version__
from popug_cli.client import http, remote_backend
from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import NotAuthenticated, PopugError
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import ListUsers, LogIn, SetPassword, User, Users, WhoAmI
from popug_cli.messages.tasks import CompleteTask, Task
from tests.support.certificates import self_signed
from tests.support.fake_server import FakeServer, Reply, answer, head, problem, read_request, saying

ADA = {"user_id": "u1", "username": "ada", "email": "ada@popug.example", "role": "admin", "active": True}
TASK = {
    **{"task_id": "t1", "number": 1, "title": "Feed the cage", "jira_id": None, "status": "completed"},
    **{"creator": "ada", "assignee": "kesha", "fee_cents": 1200, "reward_cents": 3400},
    **{"created_at": "2026-03-02T09:00:00Z", "completed_at": "2026-03-02T09:30:00.500000Z"},
}
SESSION = {"user": ADA, "token": "a.b.c", "expires_at": "2026-03-02T21:00:00Z", "device_token": "d.e.f"}
COMMAND, QUERY, SECRET = CompleteTask(number=1), WhoAmI(), LogIn(username="ada", password="seven cages")
HANG_UP: Reply = b""

Serve = Callable[..., FakeServer]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server that gives these replies."""
    monkeypatch.setattr(remote_backend, "RETRY_DELAYS_SECONDS", (0.0, 0.01, 0.01))
    started: list[FakeServer] = []

    def start(*replies: Reply, health: Reply | None = None) -> FakeServer:
        started.append(FakeServer(tmp_path / f"{len(started)}.sock", replies, health=health))
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


def reach(server: FakeServer, **more: Any) -> RemoteBackend:
    return RemoteBackend(parse(server.url), **more)


def refusal(work: Callable[[], Any]) -> PopugError:
    """Return the error of a call that must fail: a sentence with a hint, and exit 8."""
    with pytest.raises(PopugError) as caught:
        work()
    error = caught.value
    assert error.exit_status == 8
    assert error.hint
    assert error.message.endswith(".")
    assert "\n" not in error.message
    return error


# --- requests -----------------------------------------------------------------------------------


def test_command_is_posted_with_token_key_and_version(serve: Serve) -> None:
    server = serve(answer(TASK))
    task = reach(server).perform(COMMAND, "the.token")
    assert isinstance(task, Task)
    assert (task.number, task.completed_at) == (1, datetime(2026, 3, 2, 9, 30, 0, 500_000, UTC))
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("POST", "/v1/tasks/complete_task", b'{"number":1}')
    assert asked.fields["Authorization"] == "Bearer the.token"
    assert asked.fields["Content-Type"] == "application/json"
    assert asked.fields["Popug-Version"] == __version__
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", asked.fields["Idempotency-Key"])


def test_each_command_has_a_key_of_its_own_and_a_query_none(serve: Serve) -> None:
    server = serve(answer(TASK), answer(TASK), answer(ADA))
    backend = reach(server)
    backend.perform(COMMAND, "t")
    backend.perform(COMMAND, "t")
    assert backend.perform(QUERY) == User("u1", "ada", "ada@popug.example", "admin", True)  # type: ignore[arg-type]
    first, second, query = server.asked
    assert first.fields["Idempotency-Key"] != second.fields["Idempotency-Key"]
    assert not {"Idempotency-Key", "Authorization"} & set(query.fields)


def test_secret_has_no_key_and_login_has_no_token(serve: Serve) -> None:
    server = serve(answer(SESSION), answer(ADA | {"machine_tokens": []}))
    backend = reach(server)
    assert backend.perform(SECRET, "an.old.token").token == "a.b.c"
    backend.perform(SetPassword(password="eight cages"), "t")
    assert ["Idempotency-Key" in asked.fields for asked in server.asked] == [False, False]
    assert ["Authorization" in asked.fields for asked in server.asked] == [False, True]


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "å.b.c", "a b", "\udcff", "x" * 100_000, "a\0b"])
def test_token_cannot_inject_a_header(serve: Serve, token: str) -> None:
    server = serve(problem("token_invalid", 4, 401))
    with pytest.raises(NotAuthenticated):
        reach(server).perform(QUERY, token)
    assert set(server.asked[0].fields) == {
        *("Host", "Content-Type", "Content-Length", "Accept", "Popug-Version", "Authorization")
    }


def test_one_connection_serves_many_requests(serve: Serve) -> None:
    server = serve(answer(ADA))
    backend = reach(server)
    for _ in range(5):
        backend.perform(QUERY, "t")
    assert server.connections == 1


def test_request_that_must_not_repeat_uses_a_new_connection(serve: Serve) -> None:
    server = serve(answer(ADA), answer(ADA | {"machine_tokens": []}))
    backend = reach(server)
    backend.perform(QUERY, "t")
    backend.perform(SetPassword(password="eight cages"), "t")
    assert [asked.connection for asked in server.asked] == [1, 2]


def test_connection_closed_by_the_server_is_replaced(serve: Serve) -> None:
    server = serve(saying(answer(ADA)))
    backend = reach(server)
    for _ in range(4):
        backend.perform(QUERY, "t")
        sleep(0.02)
    assert len(server.asked) == 4


# --- warnings, time -----------------------------------------------------------------------------


def test_warnings_are_reported(serve: Serve) -> None:
    told: list[str] = []
    backend = reach(serve(answer(ADA, Popug_Warnings='["One \\u2026","Two"]')), warn=told.append)
    backend.perform(QUERY, "t")
    assert told == ["One …", "Two"]


def test_invalid_warnings_are_ignored(serve: Serve) -> None:
    told: list[str] = []
    reach(serve(answer(ADA, Popug_Warnings='{"no": [')), warn=told.append).perform(QUERY, "t")
    assert told == []


def test_zone_is_taken_from_an_answer_without_a_request(serve: Serve) -> None:
    server = serve(answer(ADA))
    backend = reach(server)
    backend.perform(QUERY, "t")
    assert backend.calendar.date_of(datetime(2026, 3, 2, 23, 30, tzinfo=UTC)) == date(2026, 3, 3)
    assert len(server.asked) == 1


def test_clock_is_the_servers(serve: Serve) -> None:
    server = serve(answer(ADA, Date="Sun, 02 Mar 2031 23:30:00 GMT"))
    backend = reach(server)
    now = backend.now()
    assert datetime(2031, 3, 2, 23, 30, tzinfo=UTC) <= now < datetime(2031, 3, 2, 23, 31, tzinfo=UTC)
    assert backend.calendar.date_of(now) == date(2031, 3, 3)
    assert [asked.target for asked in server.asked] == ["/readyz"]
    backend.perform(QUERY, "t")
    assert backend.now() - now < timedelta(minutes=1)
    assert len(server.asked) == 2


def test_invalid_time_or_unknown_zone_of_server_refused(serve: Serve) -> None:
    backend = reach(serve(answer({}, Popug_Time_Zone="Popug/Cage", Date="Sun, 33 Mar 2031 23:30:00 GMT")))
    assert refusal(backend.now).code == "server_unavailable"
    assert refusal(lambda: backend.calendar).code == "unknown_time_zone"


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_status", "status"), [(1, 500), (2, 422), (3, 404), (4, 401), (5, 403), (6, 409), (7, 500), (8, 503)]
)
def test_refusal_is_raised_with_all_its_fields(serve: Serve, exit_status: int, status: int) -> None:
    told = problem("some_code", exit_status, status, hint="Do this.", details={"numbers": [1, None], "big": 2**53})
    with pytest.raises(PopugError) as caught:
        reach(serve(told)).perform(COMMAND, "t")
    error = caught.value
    assert (error.code, error.exit_status) == ("some_code", exit_status)
    assert (error.message, error.hint, error.details) == ("It is so.", "Do this.", {"numbers": [1, None], "big": 2**53})


# --- broken connections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [HANG_UP, b"HTTP/1.1 200 OK\r\nContent-", answer(TASK)[:-5]],
    ids=["at once", "in the head", "in the body"],
)
def test_command_is_resent_under_same_key_after_disconnect(serve: Serve, broken: bytes) -> None:
    server = serve(saying(broken), saying(broken), answer(TASK))
    assert reach(server).perform(COMMAND, "t").number == 1
    assert len(server.asked) == 3
    assert len({asked.fields["Idempotency-Key"] for asked in server.asked}) == 1
    assert len({asked.body for asked in server.asked}) == 1


def test_command_is_in_doubt_after_repeated_disconnects(serve: Serve) -> None:
    server = serve(HANG_UP)
    error = refusal(lambda: reach(server).perform(COMMAND, "t"))
    assert error.code == "in_doubt"
    assert "may have taken effect" in error.message
    assert len(server.asked) == 3


def test_query_is_unavailable_after_repeated_disconnects(serve: Serve) -> None:
    server = serve(HANG_UP)
    assert refusal(lambda: reach(server).perform(QUERY, "t")).code == "server_unavailable"
    assert len(server.asked) == 3


@pytest.mark.parametrize("message", [SECRET, SetPassword(password="eight cages")])
def test_secret_is_never_sent_twice(serve: Serve, message: Any) -> None:
    server = serve(HANG_UP)
    assert refusal(lambda: reach(server).perform(message, "t")).code == "in_doubt"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_proxy_error_page_counts_as_a_broken_connection(serve: Serve, status: int) -> None:
    page = answer(b"<h1>Bad Gateway</h1>", status, kind="text/html", version=None)
    server = serve(page)
    assert refusal(lambda: reach(server).perform(COMMAND, "t")).code == "in_doubt"
    assert len(server.asked) == 3
    assert reach(serve(page, page, answer(ADA))).perform(QUERY, "t").username == "ada"


def test_absent_server_is_reported_at_once(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/none.sock", "http://localhost:9", "https://127.0.0.1:9", "http://popug.invalid"):
        backend = RemoteBackend(parse(url))
        assert refusal(lambda place=backend: place.perform(SECRET)).code == "server_unavailable"  # type: ignore[misc]


# --- nonsense -----------------------------------------------------------------------------------

PLAIN = {"Popug-Version": __version__, "Content-Type": "application/json"}
NONSENSE = {
    "garbage": b"\x00\xff\x13garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a status that is none": b"HTTP/1.1 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "a line without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
    "fields that are none": b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    "only interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
}
NONSENSE_OF_OURS = {
    "a length that is none": head(200, PLAIN | {"Content-Length": "-5"}),
    "a length beyond all": head(200, PLAIN | {"Content-Length": "9" * 30}),
    "chunks that are none": head(200, PLAIN | {"Transfer-Encoding": "chunked"}) + b"zz\r\n",
    "a chunk beyond all": head(200, PLAIN | {"Transfer-Encoding": "chunked"}) + b"fffffffffff\r\n",
    "a chunk of a wrong length": head(200, PLAIN | {"Transfer-Encoding": "chunked"}) + b"1\r\n{}\r\n0\r\n\r\n",
    "another encoding": head(200, PLAIN | {"Transfer-Encoding": "gzip, chunked"}),
    "packed": answer(TASK, Content_Encoding="gzip"),
    "HTML": answer(b"<html>", kind="text/html"),
    "no JSON": answer(b"{"),
    "no UTF-8": answer(b'{"task_id": "\xff"}'),
    "JSON without an end": answer(b"[" * 100_000),
    "JSON of another shape": answer([1, 2]),
    "JSON of another type": answer(TASK | {"number": "one"}),
    "nothing": answer(b""),
    "a status that says nothing": answer(TASK, 204),
}
NO_REASON = {
    "an error without a reason": answer({"oops": True}, 500, kind="application/problem+json"),
    "an error of a kind that is none": problem("oops", 77, 500),
    "an error whose details are none": problem("oops", 2, 500, details=[1]),
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_server_without_http_is_unavailable_or_in_doubt(serve: Serve, said: bytes) -> None:
    for message in (COMMAND, QUERY, SECRET):
        server = serve(saying(said))
        error = refusal(lambda server=server, message=message: reach(server).perform(message, "t"))  # type: ignore[misc]
        assert error.code in {"server_unavailable", "in_doubt"}
        assert (error.code == "in_doubt") <= (message is not QUERY)


@pytest.mark.parametrize("said", [*NONSENSE_OF_OURS.values(), *NO_REASON.values()], ids=[*NONSENSE_OF_OURS, *NO_REASON])
def test_nonsense_answer_leaves_a_command_in_doubt(serve: Serve, said: bytes) -> None:
    for message, code in ((COMMAND, "in_doubt"), (QUERY, "server_unavailable")):
        server = serve(said)
        assert refusal(lambda server=server, message=message: reach(server).perform(message, "t")).code == code  # type: ignore[misc]
        assert len(server.asked) == 1


def test_chunked_answer_or_one_without_length_is_read(serve: Serve) -> None:
    chunked = head(200, PLAIN | {"Transfer-Encoding": "chunked"})
    body = answer(ADA).partition(b"\r\n\r\n")[2]
    pieces = (
        b"5;x=y\r\n"
        + body[:5]
        + b"\r\n"
        + f"{len(body) - 5:X}\r\n".encode()
        + body[5:]
        + b"\r\n0\r\nTrailer: x\r\n\r\n"
    )
    assert reach(serve(chunked + pieces)).perform(QUERY, "t").username == "ada"
    assert reach(serve(saying(b"HTTP/1.1 100 Continue\r\n\r\n" + head(200, PLAIN) + body))).perform(QUERY, "t").active
    assert reach(serve(saying(*(bytes([each]) for each in answer(ADA))))).perform(QUERY, "t").user_id == "u1"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(ADA, version=None), "not a popug server"),
        (answer(ADA, version="99.1.0"), "99.1.0"),
        (answer(b"<html>", 200, kind="text/html", version=None), "not a popug server"),
        (answer(b"", 301, version=None, Location="https://popug.example/\x1b[31m"), "popug.example"),
        (answer(b"not here", 404, version=None, kind="text/plain"), "not a popug server"),
    ],
)
def test_answer_of_another_version_is_refused(serve: Serve, said: bytes, words: str) -> None:
    for message in (COMMAND, QUERY):
        server = serve(said)
        error = refusal(lambda server=server, message=message: reach(server).perform(message, "t"))  # type: ignore[misc]
        assert error.code == "server_version"
        assert words in error.message
        assert len(server.asked) == 1


def test_answer_of_the_same_release_is_accepted(serve: Serve) -> None:
    major, minor, _ = __version__.split(".")
    assert reach(serve(answer(ADA, version=f"{major}.{minor}.77"))).perform(QUERY, "t").username == "ada"


# --- slow servers -------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RECV_TIMEOUT_SECONDS", 0.02)
    monkeypatch.setattr(http, "READ_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(remote_backend, "PROBE_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(remote_backend, "HEALTH_TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr(remote_backend, "ANSWER_TIMEOUT_SECONDS", 10.0)


def silent(connection: socket.socket) -> None:
    sleep(60)


def late(connection: socket.socket) -> None:
    sleep(0.6)
    connection.sendall(answer(TASK))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("message", "code"), [(COMMAND, "in_doubt"), (SECRET, "in_doubt"), (QUERY, "server_unavailable")]
)
def test_silent_server_times_out(serve: Serve, message: Any, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_backend, "ANSWER_TIMEOUT_SECONDS", 600.0)
    server = serve(silent)
    began = monotonic()
    assert refusal(lambda: reach(server).perform(message, "t")).code == code
    assert monotonic() - began < 30, "it was given up because it hung up, not because it gave no sign of life"
    assert [asked.target for asked in server.asked if asked.method == "POST"] == [server.asked[0].target]


@pytest.mark.usefixtures("impatient")
def test_busy_server_is_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_SECONDS", 30.0)
    monkeypatch.setattr(remote_backend, "HEALTH_TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(remote_backend, "ANSWER_TIMEOUT_SECONDS", 600.0)
    server = serve(late, health=answer({"status": "ok"}))
    told: list[tuple[str, int, int]] = []
    backend = reach(server, progress=lambda *how_far: told.append(how_far))
    assert backend.perform(COMMAND, "t").number == 1
    assert told[0] == ("Waiting for the server", 0, 0)
    assert told[-1] == ("Waiting for the server", 1, 1)
    told.clear()
    monkeypatch.setattr(http, "RECV_TIMEOUT_SECONDS", 30.0)
    reach(serve(answer(ADA)), progress=lambda *how_far: told.append(how_far)).perform(QUERY, "t")
    assert told == []


@pytest.mark.usefixtures("impatient")
def test_wait_for_a_busy_server_is_bounded(serve: Serve) -> None:
    server = serve(silent, health=answer({"status": "ok"}))
    request = remote_backend.HttpRequest("GET", "/readyz", {}, timeout_seconds=0.3)
    assert refusal(lambda: reach(server)._answer(request)).code == "server_unavailable"


@pytest.mark.usefixtures("impatient")
def test_slow_answer_times_out(serve: Serve) -> None:
    """Its bytes take several times the limit; a client that waited for all of them would get an answer."""
    slowly = saying(*(bytes([each]) for each in answer(ADA)), then=lambda: sleep(0.01))
    assert len(answer(ADA)) * 0.01 > 5 * http.READ_TIMEOUT_SECONDS
    assert refusal(lambda: reach(serve(slowly)).perform(QUERY, "t")).code == "server_unavailable"


@pytest.mark.usefixtures("impatient")
def test_body_without_an_end_is_not_taken(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1_000_000)

    def endless(connection: socket.socket) -> None:
        connection.sendall(head(200, PLAIN))
        while True:
            connection.sendall(b" " * 65536)

    def endless_chunks(connection: socket.socket) -> None:
        connection.sendall(head(200, PLAIN | {"Transfer-Encoding": "chunked"}))
        while True:
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")

    for said in (endless, endless_chunks):
        assert refusal(lambda said=said: reach(serve(said)).perform(QUERY, "t")).code == "server_unavailable"  # type: ignore[misc]


# --- events -------------------------------------------------------------------------------------

STREAM = head(200, PLAIN | {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def events(*sequences: int) -> bytes:
    text = "".join(f'id: {n}\nevent: x\ndata: {{"sequence":"{n}"}}\n\n' for n in sequences)
    return f"{len(text) + 3:x}\r\n: \n{text}\r\n".encode()


def test_follow_resumes_after_the_last_event_received(serve: Serve) -> None:
    server = serve(saying(STREAM + events(4, 5)), HANG_UP, saying(STREAM + events(6)), saying(STREAM + events(7)))
    followed = reach(server).follow(ListEvents(type="task created", after=3), "t")
    assert [each["sequence"] for (each,) in islice(followed, 4)] == ["4", "5", "6", "7"]
    asked = [each.target for each in server.asked]
    assert asked[0] == "/v1/events?type=task+created&after=3"
    assert [each.rpartition("after=")[2] for each in asked] == ["3", "5", "5", "6"]
    assert server.asked[0].fields["Authorization"] == "Bearer t"


def test_stream_ends_with_its_token(serve: Serve) -> None:
    server = serve(saying(STREAM + events(4) + b"0\r\n\r\n"), problem("token_revoked", 4, 401))
    followed = reach(server).follow(ListEvents(), "t")
    assert len(next(followed)) == 1
    with pytest.raises(NotAuthenticated):
        next(followed)


def test_end_of_a_stream_is_not_an_event(serve: Serve) -> None:
    told = problem("token_revoked", 4, 401).partition(b"\r\n\r\n")[2]
    last = b"event: problem\ndata: " + told + b"\n\n"
    server = serve(saying(STREAM + events(4) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)))
    followed = reach(server).follow(ListEvents(), "t")
    assert [event["sequence"] for event in next(followed)] == ["4"]
    with pytest.raises(NotAuthenticated) as caught:
        next(followed)
    assert caught.value.code == "token_revoked"


@pytest.mark.parametrize("said", [HANG_UP, saying(STREAM), saying(STREAM + b"8\r\ndata: {\n\r\n"), answer({})])
def test_stream_that_never_starts_is_unavailable(serve: Serve, said: Reply) -> None:
    assert refusal(lambda: next(reach(serve(said)).follow(ListEvents(), "t"))).code == "server_unavailable"


@pytest.mark.usefixtures("impatient")
def test_silent_stream_is_reconnected(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_backend, "STREAM_TIMEOUT_SECONDS", 0.5)
    server = serve(saying(STREAM + events(1), then=lambda: sleep(3)), saying(STREAM + events(2)))
    followed = reach(server).follow(ListEvents(), "t")
    assert [each["sequence"] for (each,) in islice(followed, 2)] == ["1", "2"]


# --- large messages -----------------------------------------------------------------------------


def test_large_answers_arrive_whole(serve: Serve) -> None:
    many = {"users": [ADA | {"username": f"n{number}"} for number in range(20_000)]}
    found = reach(serve(answer(many))).perform(ListUsers(), "t")
    assert isinstance(found, Users)
    assert found.users[-1].username == "n19999"


def test_early_answer_to_a_large_request_is_reported(serve: Serve) -> None:
    from popug_cli.messages.tasks import ImportTasks, NewTask

    def early(connection: socket.socket) -> None:
        connection.sendall(problem("usage", 2, 413))

    listening = socket.socket(socket.AF_UNIX)
    path = Path(serve(HANG_UP).path).with_name("early.sock")
    listening.bind(str(path))
    listening.listen(8)

    def accept() -> None:
        connection, _ = listening.accept()
        connection.recv(100)
        early(connection)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    threading.Thread(target=accept, daemon=True).start()
    lines: list[NewTask | None] = [NewTask(title="x" * 100)] * 50_000
    with pytest.raises(PopugError) as caught:
        RemoteBackend(parse(f"unix://{path}")).perform(ImportTasks(lines=lines), "t")
    assert caught.value.code == "usage"


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for localhost and its key."""
    return self_signed(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def secured(certificate: Path) -> Iterator[str]:
    """The port of a server with TLS that answers every request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    talk(listening.accept()[0])

        def talk(plain: socket.socket) -> None:
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                stream = connection.makefile("rb")
                while read_request(stream, 0) is not None:
                    connection.sendall(answer(ADA))

        threading.Thread(target=accept, daemon=True).start()
        yield str(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def test_untrusted_certificate_gets_no_request(secured: str) -> None:
    error = refusal(lambda: RemoteBackend(parse(f"https://localhost:{secured}")).perform(SECRET))
    assert error.code == "server_unavailable"
    assert "certificate" in error.message.lower()
    assert "SSL_CERT_FILE" in error.hint


def test_trusted_certificate_is_valid_for_its_host_only(
    secured: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    backend = RemoteBackend(parse(f"https://localhost:{secured}"))
    assert [backend.perform(QUERY, "t").username for _ in range(3)] == ["ada"] * 3
    other = refusal(lambda: RemoteBackend(parse(f"https://127.0.0.1:{secured}")).perform(QUERY, "t"))
    assert "127.0.0.1" in other.message


def test_tls_mismatch_is_unavailable(secured: str) -> None:
    without = f"http://127.0.0.1:{secured}"
    assert refusal(lambda: RemoteBackend(parse(without)).perform(QUERY, "t")).code == "server_unavailable"
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def accept() -> None:
            with suppress(OSError), plain.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=accept, daemon=True).start()
        url = f"https://localhost:{plain.getsockname()[1]}"
        error = refusal(lambda: RemoteBackend(parse(url)).perform(QUERY, "t"))
        assert (error.code, "does not use TLS" in error.message) == ("server_unavailable", True)
