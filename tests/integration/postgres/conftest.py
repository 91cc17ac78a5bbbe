"""The companies of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres.programs import require_postgres
from tests.support.postgres.replicated import ReplicatedCompany, ServerPair


@pytest.fixture(scope="module")
def servers() -> Iterator[ServerPair]:
    """A primary and a streaming standby."""
    require_postgres()
    with ServerPair() as pair:
        yield pair


@pytest.fixture
def replicated(servers: ServerPair, tmp_path: Path) -> Iterator[ReplicatedCompany]:
    """A company whose database has a streaming standby; commits do not wait for it."""
    yield ReplicatedCompany(tmp_path, servers)
    servers.restore()
