"""The command that measures: what it leaves out, and what it refuses before it begins."""

import json
import shutil
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES, main


def test_what_needs_a_program_that_is_missing_is_left_out_aloud_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert main(["shuffle", "close_day", "hledger", "--quick", "--json", str(tmp_path / "b.json")]) == 0
    told = capsys.readouterr().out
    assert "shuffle is left out, for sqlite3 is missing" in told
    assert "hledger is left out, for hledger is missing" in told
    assert "0 of 0 goals are met" in told
    assert json.loads((tmp_path / "b.json").read_text())["figures"] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [(["bench"], "there is no benchmark bench"), (["flat", "--json", "none/b.json"], "no directory none")],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(line)
    assert refusal.value.code == 2
    assert said in capsys.readouterr().err
    assert "flat" in NAMES
