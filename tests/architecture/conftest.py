"""A database made by the migrations."""

from pathlib import Path

import pytest

from popug_cli.kernel.home import Home
from popug_cli.storage import migrate


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the database of a new company."""
    home = Home(tmp_path_factory.mktemp("migrated"))
    migrate.create(home)
    return home.database
