"""The answers of a server: each message by its route, refusals as problem documents, and health."""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from typing import Any

import pytest

from popug_cli.messages.base import Access, declarations
from tests.support.running_server import JSON, Answer, RunningServer, create_home
from tests.support.server_fixture import PASSWORD, ServerFixture

VERSION = version("popug")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("served") / "home")


@pytest.fixture(scope="module")
def served(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0") as found:
        yield found


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a complete problem document. Return it."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.document
    assert problem["code"] == code
    assert problem["type"] == f"urn:popug:error:{code}"
    assert problem["status"] == status
    assert {"title", "detail", "hint", "details", "exit_status"} <= problem.keys()
    assert answer.headers["popug-version"] == VERSION
    assert answer.headers["popug-time-zone"] == "Europe/Berlin"
    return problem


def test_command_and_a_query(company: ServerFixture, served: RunningServer) -> None:
    added = served.post("tasks/add_task", {"title": "Feed the cage"}, company.tokens["kesha"])
    assert added.status == 200
    assert added.headers["content-type"] == "application/json"
    assert (added.document["title"], added.document["creator"]) == ("Feed the cage", "kesha")
    assert added.document["fee_cents"] in range(1000, 2001, 100)
    number = added.document["number"]
    shown = served.post("company/show_task", {"number": number}, company.tokens["ada"])
    assert shown.document["task"] == added.document
    assert shown.headers["popug-version"] == VERSION
    assert shown.headers["popug-home-id"]


def test_public_message_needs_no_token(served: RunningServer) -> None:
    answer = served.post("identity/log_in", {"username": "ada", "password": PASSWORD})
    assert answer.document["user"]["username"] == "ada"
    assert served.post("company/show_permissions", {}).status == 200


def test_every_message_except_operator_ones_has_a_route(served: RunningServer) -> None:
    for each in declarations():
        answer = served.post(f"{each.module}/{each.name}", {"nonsense": True}, "no token")
        expected = {
            Access.OPERATOR: (404, "route_not_found"),
            Access.TOKEN: (401, "token_invalid"),
            Access.PUBLIC: (422, "usage"),
        }
        refused(answer, *expected[each.access])


@pytest.mark.parametrize(
    ("route", "message", "who", "status", "code"),
    [
        ("tasks/add_task", {"title": ""}, "kesha", 422, "invalid_title"),
        ("tasks/add_task", {"title": "x", "mine": True}, "kesha", 422, "usage"),
        ("tasks/add_task", {}, "kesha", 422, "usage"),
        ("tasks/add_task", [], "kesha", 422, "usage"),
        ("tasks/complete_task", {"number": 4711}, "kesha", 404, "task_not_found"),
        ("tasks/complete_task", {"number": 10**30}, "kesha", 404, "task_not_found"),
        ("tasks/shuffle_tasks", {}, "kesha", 403, "forbidden"),
        ("tasks/add_task", {"title": "x"}, None, 401, "not_logged_in"),
        ("tasks/add_task", {"title": "x"}, "!", 401, "token_invalid"),
        ("identity/add_user", {"username": "asya", "email": "a@b.de", "role": "worker"}, "ada", 409, "username_taken"),
        ("identity/log_in", {"username": "ada", "password": "wrong"}, None, 401, "bad_credentials"),
    ],
)
def test_refusal_is_a_problem_document(
    company: ServerFixture, served: RunningServer, route: str, message: Any, who: str | None, status: int, code: str
) -> None:
    token = None if who is None else company.tokens.get(who, "no.good.token")
    answer = served.post(route, message, token)
    refused(answer, status, code)


def test_lockout_answer_has_the_wait(served: RunningServer) -> None:
    for _ in range(7):
        answer = served.post("identity/log_in", {"username": "nobody", "password": "wrong"})
    problem = refused(answer, 429, "too_many_attempts")
    assert int(answer.headers["retry-after"]) == problem["details"]["wait_seconds"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"title": "\\ud800"}'])
def test_invalid_json_is_refused(company: ServerFixture, served: RunningServer, body: bytes) -> None:
    headers = JSON | {"Authorization": f"Bearer {company.tokens['kesha']}"}
    refused(served.request("POST", "/v1/tasks/add_task", body, headers), 400, "usage")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_content_type_of_a_form_is_refused(served: RunningServer, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    refused(served.request("POST", "/v1/identity/log_in", b"{}", headers), 415, "usage")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_request_of_a_foreign_origin_is_refused(served: RunningServer, headers: dict[str, str]) -> None:
    refused(served.request("GET", "/healthz", None, headers), 403, "forbidden")


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost:8020", 200), ("[::1]:8020", 200), ("evil.example", 421), ("", 421)],
)
def test_host_header_must_name_the_server(served: RunningServer, host: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("GET", "/healthz", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


def test_unknown_path_and_wrong_method_are_refused(served: RunningServer) -> None:
    refused(served.request("GET", "/v1/nothing"), 404, "route_not_found")
    answer = served.request("GET", "/v1/tasks/add_task")
    refused(answer, 405, "usage")
    assert "POST" in answer.headers["allow"]


def test_key_makes_a_command_take_effect_once(company: ServerFixture, served: RunningServer) -> None:
    sent = {"title": "Polish the perch"}
    token = company.tokens["kesha"]
    answers = [served.post("tasks/add_task", sent, token, Idempotency_Key='"k-1"') for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert "idempotency-replayed" not in answers[0].headers
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = served.post("tasks/add_task", {"title": "Another"}, token, Idempotency_Key="k-1")
    refused(other, 409, "idempotency_conflict")
    login = served.post("identity/log_in", {"username": "ada", "password": PASSWORD}, Idempotency_Key="k-2")
    refused(login, 422, "invalid_idempotency_key")


@pytest.mark.parametrize(("theirs", "status"), [(VERSION, 200), (f"{VERSION}.dev1", 200), ("99.0.0", 503)])
def test_client_of_another_version_is_refused(served: RunningServer, theirs: str, status: int) -> None:
    answer = served.post("company/show_permissions", {}, Popug_Version=theirs)
    assert answer.status == status
    if status != 200:
        assert refused(answer, 503, "server_version")["exit_status"] == 8


def test_health_and_readiness_are_answered(served: RunningServer) -> None:
    assert served.request("GET", "/healthz").document == {"status": "ok"}
    ready = served.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.document["version"] == VERSION
    assert ready.document["time_zone"] == "Europe/Berlin"
    assert ready.document["home_id"] == ready.headers["popug-home-id"]


def test_published_keys_verify_its_tokens(company: ServerFixture, served: RunningServer) -> None:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    answer = served.request("GET", "/.well-known/jwks.json")
    token = jwt.decode(company.tokens["kesha"], KeySet.import_key_set(answer.document), algorithms=["EdDSA"])
    assert token.claims["username"] == "kesha"


def test_schema_page_loads_nothing_external(served: RunningServer) -> None:
    answer = served.request("GET", "/schema")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = answer.body.decode()
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for each in declarations():
        assert (f"/v1/{each.module}/{each.name}<" in page) == (each.access is not Access.OPERATOR)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/schema", "/schema/openapi.json", "/.well-known/jwks.json"])
def test_get_route_answers_head(served: RunningServer, path: str) -> None:
    whole, head = served.request("GET", path), served.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


def events_of(served: RunningServer, token: str, path: str, count: int, **headers: str) -> list[dict[str, Any]]:
    """Return the first events of a stream, each with its id and kind."""
    from tests.support.running_server import UnixConnection

    connection = UnixConnection(served.socket)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} | given)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
    found: list[dict[str, Any]] = []
    lines: dict[str, str] = {}
    while len(found) < count:
        line = answer.readline().decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
        elif "data" in lines:
            found.append(json.loads(lines["data"]) | {"_id": lines["id"], "_event": lines["event"]})
            lines = {}
    connection.close()
    return found


def test_events_come_as_a_stream_and_can_be_resumed(company: ServerFixture, served: RunningServer) -> None:
    token = company.tokens["ada"]
    first = events_of(served, token, "/v1/events", 5, Last_Event_ID="")
    assert [each["_id"] for each in first] == [each["sequence"] for each in first]
    assert first[0]["_event"] == first[0]["type"]
    resumed = events_of(served, token, "/v1/events?after=0", 2, Last_Event_ID=first[2]["_id"])
    assert [each["_id"] for each in resumed] == [first[3]["_id"], first[4]["_id"]]
    only = events_of(served, token, "/v1/events?type=user_registered", 3)
    assert {each["type"] for each in only} == {"popug.identity.user_registered.v1"}


def test_new_event_is_streamed(company: ServerFixture, served: RunningServer) -> None:
    listed = served.post("bus/list_events", {"limit": 1000}, company.tokens["ada"]).document["events"]
    served.post("tasks/add_task", {"title": "Followed"}, company.tokens["kesha"])
    (followed,) = events_of(served, company.tokens["ada"], f"/v1/events?after={listed[-1]['sequence']}", 1)
    assert followed["data"]["title"] == "Followed"


@pytest.mark.parametrize(
    ("query", "who", "status", "code"),
    [
        ("", None, 401, "not_logged_in"),
        ("", "kesha", 403, "forbidden"),
        ("?after=x", "ada", 422, "usage"),
        (f"?after={2**63}", "ada", 422, "usage"),
    ],
)
def test_event_stream_refused_without_permission(
    company: ServerFixture, served: RunningServer, query: str, who: str | None, status: int, code: str
) -> None:
    headers = {} if who is None else {"Authorization": f"Bearer {company.tokens[who]}"}
    refused(served.request("GET", f"/v1/events{query}", None, headers), status, code)


BAD_EVENT = {
    "id": "01900000-0000-7000-8000-000000000000",
    "source": "/popug/tasks",
    "type": "popug.tasks.task_created.v2",
    "subject": "a task",
    "time": "2026-03-02T09:00:00.000000Z",
    "specversion": "1.0",
    "data": {},
}


def test_warnings_are_sent_in_a_header(company: ServerFixture, served: RunningServer) -> None:
    with closing(sqlite3.connect(company.home.database)) as database, database:
        database.execute("INSERT INTO bus_log (envelope) VALUES (?)", (json.dumps(BAD_EVENT),))
    warnings = [served.post("tasks/list_tasks", {}, company.tokens["kesha"]).headers.get("popug-warnings")]
    dead = served.post("bus/list_dead_letters", {}, company.tokens["ada"]).document["dead"]
    assert {each["event"]["id"] for each in dead} == {BAD_EVENT["id"]}
    assert (
        warnings == [None]
        or "billing failed on 1 event, which can be processed later." in json.loads(warnings[0] or "")[0]
    )
