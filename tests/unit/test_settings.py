"""The settings: the source of each value, and the sentence about one that is not valid or not known."""

from pathlib import Path

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.settings import SETTINGS, load_settings, read_settings
from popug_cli.kernel.settings_file import line_of


def test_environment_overrides_file_and_file_overrides_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[mail]\nfrom = "hr@example.com"\nsmtp_port = 2525\n')
    settings = load_settings(file, {"POPUG_MAIL_SMTP_PORT": "587"})
    assert settings.text("mail.from") == "hr@example.com"
    assert settings.number("mail.smtp_port") == 587
    assert settings.number("identity.session_hours") == 12
    assert [settings.sources[key] for key in ("mail.from", "mail.smtp_port", "mail.transport")] == [
        "config.toml",
        "POPUG_MAIL_SMTP_PORT",
        "default",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "[mail]\ntransport = 'pigeon'",
        "[mail]\nsmtp_port = 0",
        "[mail]\nsmtp_port = true",
        "[mail",
        "a",
    ],
)
def test_wrong_settings_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(InvalidInput):
        load_settings(file, {})


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_every_default_is_a_value_of_its_setting(key: str) -> None:
    assert SETTINGS[key].parse(SETTINGS[key].default) == SETTINGS[key].default


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_byte_order_mark_and_line_ends_are_skipped(tmp_path: Path, mark: bytes, line_end: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(mark + b"[mail]" + line_end + b"smtp_port = 2525" + line_end)
    assert load_settings(file, {}).number("mail.smtp_port") == 2525
    file.write_bytes(mark)
    assert load_settings(file, {}).number("mail.smtp_port") == 25


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ("[mail]\nsmtp_prot = 25", ["line 2", "'mail.smtp_prot'", "Did you mean mail.smtp_port"]),
        ("\n[male]\nx = 1\n", ["line 3", "'male.x'"]),
        ("mail = 5", ["line 1", "'mail'"]),
        ("[[mail]]\nfrom = 'x'", ["line 1", "'mail'"]),
        ("mail = {from = 'a@b.example', form = 'x'}", ["line 1", "'mail.form'", "mail.from"]),
        ("bus . 'x' = 1", ["line 1", "'bus.x'"]),
    ],
)
def test_unknown_key_warns_with_its_line(tmp_path: Path, content: str, sentences: list[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    settings = load_settings(file, {})
    for sentence in (str(file), *sentences):
        assert sentence in settings.warning


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[mail]\n# the port\nsmtp_port = 'x'", 3),
        ("mail.smtp_port = 'x'", 1),
        ("\n\n[ mail ]\n'smtp_port'='x'", 4),
        ("\nmail = { smtp_port = 'x' }", 2),
        ("[bus]\nmax_attempts = 5\n[mail]\nfrom = 'a@b.example'\nsmtp_port = 0x99999", 5),
    ],
)
def test_invalid_value_names_its_line_and_a_command(tmp_path: Path, content: str, line: int) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(InvalidInput) as refused:
        load_settings(file, {})
    assert refused.value.code == "invalid_setting"
    assert refused.value.message.startswith(f"{file}, line {line}: ")
    assert "popug config set mail.smtp_port" in refused.value.hint
    settings = read_settings(file, {})
    assert (settings.number("mail.smtp_port"), settings.sources["mail.smtp_port"]) == (25, "default")


def test_invalid_bytes_name_their_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"[mail]\nfrom = 'caf\xe9@example.com'\n")
    with pytest.raises(InvalidInput, match="in line 2"):
        load_settings(file, {})


def test_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(InvalidInput, match="not valid TOML"):
        load_settings(file, {})


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_empty_variable_counts_as_not_set(tmp_path: Path, key: str) -> None:
    settings = load_settings(tmp_path / "config.toml", {SETTINGS[key].variable: ""})
    assert (settings.values[key], settings.sources[key]) == (SETTINGS[key].default, "default")
    assert not settings.warning


@pytest.mark.parametrize("value", [" ", "tcp://10.0.0.1:25", "0", "x"])
def test_invalid_variable_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(InvalidInput, match="environment variable POPUG_MAIL_SMTP_PORT") as refused:
        load_settings(tmp_path / "config.toml", {"POPUG_MAIL_SMTP_PORT": value})
    assert "unset POPUG_MAIL_SMTP_PORT" in refused.value.hint


def test_misspelt_variable_warns_and_others_do_not(tmp_path: Path) -> None:
    environment = {"POPUG_MAIL_SMTP_PROT": "25", "POPUG_HOME": "/x", "POPUG_MAIL_7_B": "", "POPUG_TOKEN": "x"}
    warning = read_settings(tmp_path / "config.toml", environment).warning
    assert "POPUG_MAIL_SMTP_PROT does not belong to a setting. Did you mean POPUG_MAIL_SMTP_PORT?" in warning
    assert warning.count("POPUG_") == 2


def test_line_of_a_missing_key_is_none() -> None:
    assert line_of("mail.from", "[mail]\nsmtp_port = 1") is None
