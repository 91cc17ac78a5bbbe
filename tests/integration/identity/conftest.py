"""The company of the tests of identity, copied for each test."""

from pathlib import Path

import pytest

from tests.support.identity_company import People, settle


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def people(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    return settle(tmp_path / "home", template, monkeypatch)
