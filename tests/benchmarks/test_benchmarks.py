"""The benchmark command: skipped benchmarks, and refusals before it begins."""

import json
import shutil
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES, main
from tests.benchmarks.figures import Figure, show
from tests.benchmarks.startup import peers


def test_missing_program_skips_its_benchmark_with_a_message(
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
def test_invalid_arguments_are_refused_before_measuring(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(line)
    assert refusal.value.code == 2
    assert said in capsys.readouterr().err
    assert "flat" in NAMES


def test_missing_peers_are_left_out_of_the_startup_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert peers(tmp_path) == {}


def test_figure_without_goal_is_shown_without_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert [figure.is_met for figure in show([Figure("gh", [3.0], None), Figure("popug", [3.0], 2.0)])] == [True, False]
    assert "MISSED" not in capsys.readouterr().out.partition("popug")[0]
