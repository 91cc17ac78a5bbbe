"""Events of a server: the stream is resumed after it breaks, and ends with its token."""

from itertools import islice
from time import monotonic, sleep

import pytest

from popug_cli.client import remote_backend
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.messages.bus import ListEvents
from tests.support.fake_server import HANG_UP, STREAM, Reply, Serve, answer, events, problem, reach, refusal, saying


def test_follow_resumes_after_the_last_event_received(serve: Serve) -> None:
    server = serve(saying(STREAM + events(4, 5)), HANG_UP, saying(STREAM + events(6)), saying(STREAM + events(7)))
    followed = reach(server).follow(ListEvents(type="task created", after=3), "t")
    assert [each["sequence"] for (each,) in islice(followed, 4)] == ["4", "5", "6", "7"]
    asked = [each.target for each in server.asked]
    assert asked[0] == "/v1/events?type=task+created&after=3"
    assert {each.rpartition("after=")[2] for each in asked} == {"3"}
    assert [each.fields.get("Last-Event-ID", "") for each in server.asked] == ["", "5", "5", "6"]
    assert server.asked[0].fields["Authorization"] == "Bearer t"


def test_stream_ends_with_its_token(serve: Serve) -> None:
    server = serve(saying(STREAM + events(4) + b"0\r\n\r\n"), problem("token_revoked", 4, 401))
    followed = reach(server).follow(ListEvents(), "t")
    assert len(next(followed)) == 1
    with pytest.raises(NotAuthenticated):
        next(followed)


def test_end_of_a_stream_is_not_an_event(serve: Serve) -> None:
    document = problem("token_revoked", 4, 401).partition(b"\r\n\r\n")[2]
    last = b"event: problem\ndata: " + document + b"\n\n"
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
    server = serve(saying(STREAM + events(1), then=lambda: sleep(60)), saying(STREAM + events(2)))
    followed = reach(server).follow(ListEvents(), "t")
    began = monotonic()
    assert [each["sequence"] for (each,) in islice(followed, 2)] == ["1", "2"]
    assert monotonic() - began < 30, "the client waited until the server hung up"
