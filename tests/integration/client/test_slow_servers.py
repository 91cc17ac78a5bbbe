"""A server that is silent, late or endless: the client waits for a busy one, and gives up within its limits."""

import socket
from time import monotonic, sleep
from typing import Any

import pytest

from popug_cli.client import http, remote_backend, requests
from tests.support.fake_server import (
    ADA,
    COMMAND,
    PLAIN,
    QUERY,
    SECRET,
    TASK,
    Serve,
    answer,
    head,
    reach,
    refusal,
    saying,
)


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
    monkeypatch.setattr(requests, "ANSWER_TIMEOUT_SECONDS", 600.0)
    server = serve(silent)
    began = monotonic()
    assert refusal(lambda: reach(server).perform(message, "t")).code == code
    assert monotonic() - began < 30, "the client waited until the server hung up"
    assert [asked.target for asked in server.asked if asked.method == "POST"] == [server.asked[0].target]


@pytest.mark.usefixtures("impatient")
def test_busy_server_is_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_SECONDS", 30.0)
    monkeypatch.setattr(remote_backend, "HEALTH_TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(requests, "ANSWER_TIMEOUT_SECONDS", 600.0)
    server = serve(late, health=answer({"status": "ok"}))
    reported: list[tuple[str, int, int]] = []
    backend = reach(server, progress=lambda *how_far: reported.append(how_far))
    assert backend.perform(COMMAND, "t").number == 1
    assert reported[0] == ("Waiting for the server", 0, 0)
    assert reported[-1] == ("Waiting for the server", 1, 1)
    reported.clear()
    monkeypatch.setattr(http, "RECV_TIMEOUT_SECONDS", 30.0)
    reach(serve(answer(ADA)), progress=lambda *how_far: reported.append(how_far)).perform(QUERY, "t")
    assert reported == []


@pytest.mark.usefixtures("impatient")
def test_wait_for_a_busy_server_is_bounded(serve: Serve) -> None:
    server = serve(silent, health=answer({"status": "ok"}))
    request = requests.HttpRequest("GET", "/readyz", {}, timeout_seconds=0.3)
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
