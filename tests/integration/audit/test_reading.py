"""Rows that a check does not read, because it ends early, leave nothing behind."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.messages.principal import OPERATOR
from popug_cli.storage.sqlite import SqliteConnection
from tests.support.company import InProcess


def test_unread_rows_report_nothing_after_database_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unheard: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", unheard.append)
    company = InProcess(tmp_path / "home")
    with company.backend.runtime.reading(OPERATOR) as context:
        rows = context.connection.stream("SELECT 1 UNION ALL SELECT 2")
        assert next(rows) == (1,)
        assert isinstance(context.connection, SqliteConnection)
        driver = context.connection._driver
    company.backend.close()
    assert driver is not None
    driver.close()
    del rows
    assert unheard == []
