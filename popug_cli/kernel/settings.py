"""The settings of a home: declared once, read from defaults, ``config.toml`` and the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import did_you_mean

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its key in ``config.toml``, its default, its help text, and its allowed values."""

    key: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**31

    @property
    def variable(self) -> str:
        """The environment variable that overrides it: ``POPUG_MAIL_SMTP_HOST`` for ``mail.smtp_host``."""
        return "POPUG_" + self.key.replace(".", "_").upper()

    def parse(self, raw: object) -> Value:
        """Return ``raw``, a TOML value or a text, as a value of the setting's type; raise ``invalid_setting``."""
        value = _typed(raw, self.default)
        if value is None or (self.choices and value not in self.choices):
            raise self._invalid_value(raw)
        if isinstance(value, int) and not isinstance(value, bool) and not self.minimum <= value <= self.maximum:
            raise self._invalid_value(raw)
        if isinstance(value, str) and any(ord(c) < 0x20 or ord(c) == 0x7F for c in value):
            raise self._invalid_value(raw)
        return value

    def _invalid_value(self, raw: object) -> InvalidInput:
        whole_number = f"a whole number from {self.minimum} to {self.maximum}"
        descriptions = {bool: "true or false", int: whole_number, str: "one line"}
        expected = "one of " + ", ".join(self.choices) if self.choices else descriptions[type(self.default)]
        return InvalidInput(
            "invalid_setting",
            f"{raw!r} is not a valid value for {self.key}: it must be {expected}.",
            hint=f"{did_you_mean(str(raw), self.choices)}Run `popug config show` for all settings with their values.",
            details={"key": self.key},
        )


def _typed(raw: object, default: Value) -> Value | None:
    """Return ``raw`` in the type of ``default``, or None if it does not fit."""
    if isinstance(default, bool):
        flags: dict[object, bool] = {"true": True, "false": False, True: True, False: False}
        key = raw.lower() if isinstance(raw, str) else raw
        return flags.get(key) if isinstance(raw, str | bool) else None
    if isinstance(default, int):
        text = str(raw) if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
    return raw if isinstance(raw, str) else None


MAX_SMTP_TIMEOUT_SECONDS = 600
SETTINGS = {
    setting.key: setting
    for setting in (
        Setting("mail.transport", "maildir", "where payout mail goes", choices=("maildir", "smtp")),
        Setting("mail.from", "popug@localhost", "the sender of payout mail"),
        Setting("mail.summary", False, "whether admins and accountants get a mail about each closed day"),
        Setting("mail.smtp_host", "localhost", "the SMTP server"),
        Setting("mail.smtp_port", 25, "the port of the SMTP server", minimum=1, maximum=65535),
        Setting("mail.smtp_hello_name", "", "the name in EHLO; this machine's own name or address if empty"),
        Setting("mail.smtp_tls", "none", "how the connection is secured", choices=("none", "starttls", "tls")),
        Setting("mail.smtp_login_without_tls", False, "whether to log in without TLS if the server is this machine"),
        Setting("mail.smtp_ca_file", "", "a file of certificates to trust in addition to the machine's; none if empty"),
        Setting("mail.smtp_username", "", "the name to log in with; none if empty"),
        Setting("mail.smtp_password_file", "", "a file that holds the password"),
        Setting(
            "mail.smtp_timeout_seconds",
            30,
            "the longest that one step of SMTP may take",
            minimum=1,
            maximum=MAX_SMTP_TIMEOUT_SECONDS,
        ),
        Setting("scheduler.backup", False, "whether the scheduler takes a backup a day; it never removes one"),
        Setting("identity.session_hours", 12, "how long a login lasts", minimum=1, maximum=24 * 31),
        Setting("identity.argon2_time_cost", 3, "passes of argon2id", minimum=1, maximum=100),
        Setting("identity.argon2_memory_kib", 65536, "memory of argon2id", minimum=8192, maximum=4 * 1024 * 1024),
        Setting("identity.argon2_parallelism", 4, "lanes of argon2id", minimum=1, maximum=64),
        Setting("bus.max_attempts", 5, "failures after which an event becomes a dead letter", minimum=1, maximum=100),
        Setting(
            "bus.retry_seconds", 10, "the wait after the first failure, doubled after each", minimum=1, maximum=3600
        ),
        Setting("bus.retry_cap_seconds", 3600, "the longest wait between two attempts", minimum=1, maximum=7 * 86400),
        Setting("hooks.timeout_seconds", 30, "the longest that one run of a hook may take", minimum=1, maximum=3600),
        Setting(
            "bus.catch_up_seconds",
            1,
            "how long a command may run the consumers on events of earlier commands",
            minimum=1,
            maximum=86400,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective values, and the source of each: ``default``, ``config.toml`` or an environment variable."""

    values: Mapping[str, Value]
    sources: Mapping[str, str]

    def text(self, key: str) -> str:
        """Return the value of a text setting."""
        value = self.values[key]
        assert isinstance(value, str)
        return value

    def number(self, key: str) -> int:
        """Return the value of a whole-number setting."""
        value = self.values[key]
        assert isinstance(value, int)
        return value

    def flag(self, key: str) -> bool:
        """Return the value of a true-or-false setting."""
        value = self.values[key]
        assert isinstance(value, bool)
        return value


def load_settings(file: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the defaults, overridden by the file, overridden by the environment.

    Raise ``unknown_setting`` for a key in the file, and ``invalid_setting`` for a value or for a file that is not TOML.
    """
    values: dict[str, Value] = {key: setting.default for key, setting in SETTINGS.items()}
    sources = dict.fromkeys(SETTINGS, "default")
    for key, raw in _flatten(_read_toml(file)).items():
        values[key] = find_setting(key).parse(raw)
        sources[key] = "config.toml"
    for key, setting in SETTINGS.items():
        if setting.variable in environment:
            values[key] = setting.parse(environment[setting.variable])
            sources[key] = setting.variable
    return Settings(values, sources)


def find_setting(key: str) -> Setting:
    """Return the setting with that key; raise ``unknown_setting``."""
    if key not in SETTINGS:
        raise InvalidInput(
            "unknown_setting",
            f"There is no setting called {key!r}.",
            hint=f"{did_you_mean(key, SETTINGS)}Run `popug config show` for all settings.",
            details={"key": key},
        )
    return SETTINGS[key]


def _read_toml(file: Path) -> dict[str, object]:
    import tomllib

    if file.is_fifo():
        raise InvalidInput("invalid_setting", f"{file} is a pipe, not a file.", hint="Replace it with a file.")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            "invalid_setting",
            f"{file} is not valid TOML: {error}.",
            hint="Correct the file, or move it away to use the defaults.",
        ) from error


def _flatten(tables: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tables.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
