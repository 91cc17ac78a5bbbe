"""The OpenAPI document against the server: every answer is in the document and none is an internal error.

``POPUG_SCHEMATHESIS_CASES=10000 pytest -n 0 tests/integration/server/test_serve_schema.py`` tries as many cases in all.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from popug_cli.messages.base import Access, declarations
from popug_cli.server.openapi import document
from tests.support.running_server import RunningServer, create_home
from tests.support.server_fixture import ServerFixture

CASES = int(os.environ.get("POPUG_SCHEMATHESIS_CASES", "180"))
SCHEMA = schemathesis.openapi.from_dict(document("0.1.0"))
OPERATIONS = {
    f"{method.upper()} {path}": SCHEMA[path][method]
    for path, item in document("0.1.0")["paths"].items()
    for method in item
    if path != "/v1/events"  # it does not end
}
EACH = max(1, CASES // len(OPERATIONS))
FAULT = 500
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("schema") / "home")


@pytest.fixture(scope="module")
def served(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0") as found:
        yield found
        assert found.request("GET", "/readyz").status == 200


def test_every_route_is_in_the_document() -> None:
    told = set(document("0.1.0")["paths"])
    routes = {f"/v1/{each.module}/{each.name}" for each in declarations() if each.access is not Access.OPERATOR}
    others = {"/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/v1/events", "/schema/openapi.json"}
    assert told == routes | others


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_answer_is_outside_the_document(company: ServerFixture, served: RunningServer, name: str) -> None:
    strategy = OPERATIONS[name].as_strategy() | OPERATIONS[name].as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )
    token = company.tokens["kesha" if name.endswith("log_out") else "ada"]

    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        derandomize=CASES == 180,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def holds(case: Any) -> None:
        answer = case.call(
            base_url=f"http://127.0.0.1:{served.port}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert answer.status_code < FAULT, answer.content
        case.validate_response(answer, checks=CHECKS)

    holds()
