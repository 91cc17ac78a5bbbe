"""The server's own application: paths, methods, bodies, and the packages that it loads."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires

import pytest

from tests.support.running_server import (
    JSON,
    RunningServer,
    create_home,
    status_of,
)
from tests.support.server_fixture import ServerFixture

READ_PATHS = ("/healthz", "/readyz", "/metrics", "/schema", "/schema/openapi.json", "/.well-known/jwks.json")
SHORT = """
from popug_cli.server import connection_limits, request_limits
request_limits.MAX_MESSAGE_BYTES = 200_000
request_limits.SMALL_BODY_BYTES = 50_000
connection_limits.UNREAD_TIMEOUT_SECONDS = 0.5
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("routes") / "home")


@pytest.fixture(scope="module")
def served(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, patch=SHORT) as found:
        yield found
        assert (found.end(), found.err) == (0, "")


@pytest.mark.parametrize("path", READ_PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_method_without_a_route_is_refused(served: RunningServer, path: str, method: str) -> None:
    answer = served.request(method, path, b"{}", JSON)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.document["detail"] == f"{path} does not support {method}."


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_message_answers_post_only(served: RunningServer, method: str) -> None:
    answer = served.request(method, "/v1/tasks/add_task")
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/healthz", "GET, HEAD, OPTIONS"), ("/v1/events", "GET, OPTIONS"), ("/v1/tasks/add_task", "OPTIONS, POST")],
)
def test_options_lists_the_methods(served: RunningServer, path: str, allowed: str) -> None:
    answer = served.request("OPTIONS", path)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed, b"")
    assert "content-length" not in answer.headers, "RFC 9110, 8.6"


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz?x=1", "/%68ealthz", "/healthz%2F"])
def test_path_is_normalized(served: RunningServer, path: str) -> None:
    assert served.request("GET", path).document == {"status": "ok"}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/tasks", "/healthz/x", "/schema/nope", "/schema/../healthz", "/..%2fhealthz", "/HEALTHZ"]
)
def test_other_path_has_no_route(served: RunningServer, path: str) -> None:
    answer = served.request("GET", path)
    assert (answer.status, answer.document["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("title", ["</style><script>", "a`b``c", "{{ 7 * 7 }}"])
def test_schema_page_escapes_what_the_document_says(title: str) -> None:
    from popug_cli.server.meta_routes import render_page
    from popug_cli.server.openapi import document

    described = document("0.1.0")
    described["info"]["description"] = title
    page = render_page(described).decode()
    assert "<script" not in page
    assert "49" not in page.partition("</h1>")[2].partition("<h2>")[0]


@pytest.mark.parametrize(
    "sent",
    [{"number": "1"}, {"number": 1.0}, {"number": True}, {"number": None}, {"number": [1]}, {"number": 1, "mine": 1}],
)
def test_body_is_checked_strictly(served: RunningServer, company: ServerFixture, sent: dict[str, object]) -> None:
    answer = served.post("tasks/complete_task", sent, company.tokens["kesha"])
    assert (answer.status, answer.document["code"]) == (422, "usage")


@pytest.mark.parametrize(("route", "limit"), [("tasks/add_task", 50_000), ("tasks/import_tasks", 200_000)])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize(("extra", "statuses"), [(0, {200, 422}), (1, {413})], ids=["at", "over"])
def test_body_has_exactly_its_limit(
    served: RunningServer,
    company: ServerFixture,
    route: str,
    limit: int,
    is_chunked: bool,
    extra: int,
    statuses: set[int],
) -> None:
    message = json.dumps({"title": "x"} if route.endswith("add_task") else {"lines": []}).encode()
    body = message + b" " * (limit + extra - len(message))
    head = b"POST /v1/%b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n" % (
        route.encode(),
        company.tokens["kesha"].encode(),
    )
    if is_chunked:
        pieces = [body[start : start + 4_000] for start in range(0, len(body), 4_000)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        sent = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert status_of(served, sent) in statuses


@pytest.mark.parametrize(("count", "status"), [(1_015, 200), (1_016, 400)])  # 1,000, and one more per 64 bytes
def test_chunks_of_a_byte_are_bounded(served: RunningServer, company: ServerFixture, count: int, status: int) -> None:
    body = b'{"title": "Sent one byte at a time"}'
    head = b"POST /v1/tasks/add_task HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n" % company.tokens["kesha"].encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body.ljust(count))
    assert status_of(served, head + chunks + b"0\r\n\r\n") == status


def test_server_depends_on_uvicorn_and_h11_only() -> None:
    extras = [each for each in requires("popug") or [] if "extra == 'server'" in each]
    assert sorted(each.partition(">")[0].partition("<")[0] for each in extras) == ["h11", "uvicorn"]
    code = "import sys; from popug_cli.server import run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"litestar", "starlette", "httpx", "yaml", "multipart", "jinja2", "typer", "rich"} == set()
    assert "uvicorn" in loaded
