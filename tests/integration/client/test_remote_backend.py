"""The client of a server: its requests, its retries, and the answers that it accepts."""

import re
import socket
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from popug_cli import __version__
from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import NotAuthenticated, PopugError
from popug_cli.messages.identity import ListUsers, SetPassword, User, Users
from popug_cli.messages.tasks import Task
from tests.support.fake_server import (
    ADA,
    COMMAND,
    HANG_UP,
    PLAIN,
    QUERY,
    SECRET,
    SESSION,
    TASK,
    Serve,
    answer,
    head,
    problem,
    reach,
    refusal,
    saying,
)

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
    warnings: list[str] = []
    backend = reach(serve(answer(ADA, Popug_Warnings='["One \\u2026","Two"]')), warn=warnings.append)
    backend.perform(QUERY, "t")
    assert warnings == ["One …", "Two"]


def test_invalid_warnings_are_ignored(serve: Serve) -> None:
    warnings: list[str] = []
    reach(serve(answer(ADA, Popug_Warnings='{"no": [')), warn=warnings.append).perform(QUERY, "t")
    assert warnings == []


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
    assert [asked.target for asked in server.asked] == ["/healthz"]
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
    reply = problem("some_code", exit_status, status, hint="Do this.", details={"numbers": [1, None], "big": 2**53})
    with pytest.raises(PopugError) as caught:
        reach(serve(reply)).perform(COMMAND, "t")
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
