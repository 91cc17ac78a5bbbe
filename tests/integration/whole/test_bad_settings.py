"""One bad setting stops no command that shows or repairs it, and every other command says where it stands."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.kernel.settings import load_settings

PASSWORD = "seven-cages-under-9-moons"
WORKING = (["config", "show"], ["doctor"], ["backup"])
INVALID_VALUE = b'[mail]\nsmtp_port = "abc"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A company whose admin is logged in."""
    monkeypatch.setenv("POPUG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{PASSWORD}\n".encode())))
    assert run(["init", "--admin", "ada", "--email", "ada@example.com", "--password-stdin"]) == 0
    capsys.readouterr()
    return tmp_path / "home"


@pytest.mark.parametrize("content", [INVALID_VALUE, b"[mail\n", b"[mail]\nfrom = '\xff'\n", b"[bus]\nmax_attempts = 0"])
def test_bad_file_stops_only_what_needs_it(home: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_bytes(content)
    for words in WORKING:
        assert run([*words, "--json"]) == 0, words
        out, err = capsys.readouterr()
        assert json.loads(out)
        assert str(home / "config.toml") in err, words
        assert "line" in err
    for words in (["balance"], ["close-day"], ["scheduler", "--once"], ["task", "add", "Feed the cage"]):
        assert run([*words, "--json"]) == 2, words
        error = json.loads(capsys.readouterr().err)["error"]
        assert error["code"] == "invalid_setting"
        assert str(home / "config.toml") in error["message"]
        assert "config show" not in error["hint"]


def put_directory(file: Path) -> None:
    file.mkdir()


def put_pipe(file: Path) -> None:
    os.mkfifo(file)


def put_loop(file: Path) -> None:
    file.symlink_to(file.name)


def put_link_below_a_file(file: Path) -> None:
    file.symlink_to("popug.db/config.toml")


@pytest.mark.parametrize("put", [put_directory, put_pipe, put_loop, put_link_below_a_file])
def test_what_is_not_a_file_stops_only_what_needs_it(
    home: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(home / "config.toml")
    for words in WORKING:
        assert run([*words, "--json"]) == 0, words
        assert str(home / "config.toml") in capsys.readouterr().err, words
    for words in (["balance"], ["config", "set", "mail.smtp_port", "2525"]):
        assert run([*words, "--json"]) == 2, words
        error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
        assert error["code"] == "invalid_setting"
        assert f"mv {home / 'config.toml'} " in error["hint"]


def test_link_into_a_missing_directory_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").symlink_to(home.parent / "dotfiles" / "popug.toml")
    assert run(["balance"]) == 0
    assert run(["config", "set", "mail.smtp_port", "2525", "--json"]) == 2
    assert f"mkdir -p {home.parent / 'dotfiles'}" in json.loads(capsys.readouterr().err)["error"]["hint"]
    (home.parent / "dotfiles").mkdir()
    assert run(["config", "set", "mail.smtp_port", "2525"]) == 0
    assert (home.parent / "dotfiles" / "popug.toml").exists()


def test_config_set_repairs_the_bad_value(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_bytes(b"\xef\xbb\xbf" + INVALID_VALUE + b"# kept\n")
    assert run(["config", "set", "mail.smtp_port", "2525"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert run(["balance"]) == 0
    text = (home / "config.toml").read_bytes()
    assert text.startswith(b"[mail]")
    assert b"# kept" in text
    assert load_settings(home / "config.toml", {}).number("mail.smtp_port") == 2525


def test_config_set_leaves_other_bad_settings(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_bytes(INVALID_VALUE + b"smtp_prot = 25\n")
    assert run(["config", "set", "mail.smtp_host", "mx.example"]) == 0
    said = capsys.readouterr().err
    assert "line 2" in said
    assert "line 3" in said
    assert b"abc" in (home / "config.toml").read_bytes()


@pytest.mark.parametrize("content", ["mail = 5\n", "[[mail]]\nfrom = 'x'\n", "[mail\n"])
def test_config_set_refused_if_the_file_cannot_hold_it(
    home: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.toml").write_text(content)
    assert run(["config", "set", "mail.smtp_port", "2525", "--json"]) == 2
    assert "line 1" in json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["message"]
    assert (home / "config.toml").read_text() == content


def test_misspelt_key_only_warns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text("[mail]\nsmtp_prot = 25\n")
    for words in (["balance"], ["config", "show"], ["doctor"], ["tasks", "list"]):
        assert run([*words, "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)
        assert err.count("'mail.smtp_prot'") == 1
        assert "line 2" in err
        assert "mail.smtp_port" in err


def test_empty_and_invalid_variables(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POPUG_MAIL_SMTP_PORT", "POPUG_MAIL_SUMMARY", "POPUG_MAIL_TRANSPORT"):
        monkeypatch.setenv(name, "")
    assert run(["balance"]) == 0
    monkeypatch.setenv("POPUG_MAIL_SUMMARY", "perhaps")
    assert run(["balance"]) == 2
    assert "POPUG_MAIL_SUMMARY" in capsys.readouterr().err
    for words in WORKING:
        assert run(words) == 0
        assert "POPUG_MAIL_SUMMARY" in capsys.readouterr().err
