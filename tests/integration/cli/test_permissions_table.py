"""The output of `popug permissions`: each command once, each message in the JSON."""

import json
from collections import Counter
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.messages.base import declarations


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    """A folder without a company: the table needs none."""
    return ["--home", str(tmp_path / "nowhere")]


def test_command_stands_in_one_row(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "permissions"]) == 0
    rows = [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in capsys.readouterr().out.splitlines()
    ]
    by_command = {row[0]: row[1:] for row in rows if row}
    assert max(Counter(row[0] for row in rows if row).values()) == 1
    assert {each.command_line for each in declarations()} <= set(by_command)
    everybody = "all roles"
    assert by_command["task show"] == by_command["balance"] == [everybody, "admin, accountant"]
    assert by_command["task complete"] == [everybody]
    assert by_command["user passwd"] == [everybody, "admin"]
    assert by_command["close-day"] == ["admin, accountant", "close-day"]
    assert (by_command["doctor"], by_command["login"]) == (["the operator"], ["anyone"])


def test_document_has_every_message(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "permissions", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["permissions"]
    assert [line["message"] for line in lines] == [each.name for each in declarations()]
    named = {line["message"] for line in lines if line["others"]}
    assert named == {each.name for each in declarations() if each.has_username and each.roles_for_others}
