"""A company whose founding was cut short."""

from pathlib import Path

from popug_cli.app import Local
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth
from tests.integration.support import InProcess


def test_a_founding_that_was_cut_short_is_healthy_and_a_company_without_its_key_is_not(tmp_path: Path) -> None:
    """Found by the power-cut harness: the database was there, and nobody in it yet."""
    place = Local(Home(tmp_path / "home"))
    place.found("Europe/Berlin")
    assert place.perform(CheckHealth()).ok
    company = InProcess(tmp_path / "other")
    (company.root / "keys" / "signing").unlink()
    health = company.place.perform(CheckHealth())
    assert [check.name for check in health.checks if not check.ok] == ["keys"]
