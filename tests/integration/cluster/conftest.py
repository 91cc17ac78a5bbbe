"""The services identity and tasks, whose users are created once per file and copied."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.identity import service_authorization
from tests.integration.cluster.token_services import TokenServices
from tests.support.identity_company import settle


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def services(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServices]:
    monkeypatch.setattr(service_authorization, "KEY_WAIT_SECONDS", 0.2)
    people = settle(tmp_path / "home", template, monkeypatch)
    services = TokenServices(people, tmp_path / "services")
    services.sync()
    yield services
    services.close()
