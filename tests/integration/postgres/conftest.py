"""The companies of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres.programs import require_postgres
from tests.support.postgres.replicated import ReplicatedCompany


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[ReplicatedCompany]:
    """A company whose database has a streaming standby; commits do not wait for it."""
    require_postgres()
    with ReplicatedCompany(tmp_path) as company:
        yield company
