"""A company whose init was interrupted."""

from pathlib import Path

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth
from tests.support.company import InProcess


def test_interrupted_init_is_healthy_and_missing_key_is_not(tmp_path: Path) -> None:
    """Found by the power-cut harness: the database existed without a user."""
    backend = LocalBackend(Home(tmp_path / "home"))
    backend.create_company("Europe/Berlin")
    assert backend.perform(CheckHealth()).ok
    company = InProcess(tmp_path / "other")
    (company.root / "keys" / "signing").unlink()
    health = company.backend.perform(CheckHealth())
    assert [check.name for check in health.checks if not check.ok] == ["keys"]
