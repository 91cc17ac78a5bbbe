"""The settings of a home: declared once, read from defaults, ``config.toml`` and the environment."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from popug_cli.kernel import settings_file
from popug_cli.kernel.errors import InvalidInput, PopugError
from popug_cli.kernel.text import did_you_mean, without_password

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
    special_variable: str = ""
    may_have_password: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that overrides it: ``POPUG_MAIL_SMTP_HOST`` for ``mail.smtp_host``."""
        return self.special_variable or "POPUG_" + self.key.replace(".", "_").upper()

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

    def shown(self, value: Value) -> Value:
        """Return a value as people may see it: a URL without its password."""
        return without_password(str(value)) if self.may_have_password else value

    def _invalid_value(self, raw: object) -> InvalidInput:
        whole_number = f"a whole number from {self.minimum} to {self.maximum}"
        descriptions = {bool: "true or false", int: whole_number, str: "one line"}
        expected = "one of " + ", ".join(self.choices) if self.choices else descriptions[type(self.default)]
        return InvalidInput(
            "invalid_setting",
            f"{'This' if self.may_have_password else repr(raw)} is not a valid value for {self.key}: it must be"
            f" {expected}.",
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
MISSPELT_SIMILARITY = 0.9
DATABASE_URL = "database.url"
REPLICA_URL = "database.replica_url"
BROKERS, CLUSTER_PREFIX, CLUSTER_HOMES = "cluster.brokers", "cluster.prefix", "cluster.homes"
SERVICE_ADDRESSES = "cluster.services"
SCHEDULER_TOKEN_FILE = "scheduler.token_file"  # noqa: S105 - a key
SETTINGS = {
    setting.key: setting
    for setting in (
        Setting(
            DATABASE_URL,
            "",
            "the PostgreSQL database of the company (postgresql://USER@HOST/NAME); the file in the home if empty",
            special_variable="POPUG_DATABASE",
            may_have_password=True,
        ),
        Setting(
            REPLICA_URL,
            "",
            "a standby of that database, which answers queries (postgresql://USER@HOST/NAME); none if empty",
            special_variable="POPUG_DATABASE_REPLICA",
            may_have_password=True,
        ),
        Setting(
            BROKERS,
            "",
            "the Kafka brokers of a cluster (HOST:PORT, several joined by commas)",
            special_variable="POPUG_BROKERS",
        ),
        Setting(CLUSTER_PREFIX, "popug", "the first part of the names of a cluster's topics and databases"),
        Setting(CLUSTER_HOMES, "", "the directory that has the home of each service of a cluster"),
        Setting(
            SERVICE_ADDRESSES,
            "",
            "the addresses of a cluster's services (NAME=URL, joined by commas); the sockets in their homes if empty",
            special_variable="POPUG_SERVICES",
        ),
        Setting(
            "kafka.security_protocol",
            "plaintext",
            "how connections to the brokers are secured",
            choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        ),
        Setting(
            "kafka.sasl_mechanism",
            "SCRAM-SHA-512",
            "how popug logs in at the brokers",
            choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        ),
        Setting("kafka.sasl_username", "", "the name to log in with at the brokers"),
        Setting("kafka.sasl_password_file", "", "a file that holds the password for the brokers"),
        Setting("kafka.ca_file", "", "a file of certificates to trust for the brokers; the machine's if empty"),
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
        Setting(
            "tasks.import_limit",
            10_000,
            "how many tasks a worker or an accountant may import at once; managers and admins may import any number",
        ),
        Setting(
            SCHEDULER_TOKEN_FILE,
            "",
            "in a cluster, a file with the machine token of scope close-day with which the scheduler asks the services",
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
        Setting(
            "log.format",
            "text",
            "how servers and schedulers that start write their log",
            choices=("text", "json"),
        ),
        Setting("log.access", False, "whether servers that start log each request"),
    )
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective values, and the source of each: ``default``, ``config.toml`` or an environment variable.

    A setting whose given value is not valid has its default; ``problems`` has the error of each. ``unknown`` has a
    sentence for each key or variable that is not a setting and is ignored.
    """

    values: Mapping[str, Value]
    sources: Mapping[str, str]
    problems: tuple[PopugError, ...] = ()
    unknown: tuple[str, ...] = ()

    def require_valid(self) -> None:
        """Raise the first problem, if there is one."""
        if self.problems:
            raise self.problems[0]

    @property
    def warning(self) -> str:
        """Return all problems and unknown keys in one text, which is empty if there are none."""
        invalid = (f"{problem.message} The default is used." for problem in self.problems)
        return " ".join((*invalid, *self.unknown))

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
    """Return the settings as ``read_settings`` does, but raise ``invalid_setting`` for the first problem."""
    settings = read_settings(file, environment)
    settings.require_valid()
    return settings


def read_settings(file: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the defaults, overridden by the file, overridden by the environment; a problem leaves the default.

    An empty variable counts as unset, because container tools pass on unset variables as empty ones. Raise ``OSError``.
    """
    values: dict[str, Value] = {key: setting.default for key, setting in SETTINGS.items()}
    sources = dict.fromkeys(SETTINGS, "default")
    problems: list[PopugError] = []
    unknown: list[str] = []
    try:
        text = settings_file.read_text(file)
        given = settings_file.parse(file, text)
    except PopugError as error:
        text, given = "", {}
        problems.append(error)
    for key, raw in given.items():
        place = _place_in_file(file, settings_file.line_of(key, text))
        if key not in SETTINGS:
            suggestion = did_you_mean(key, SETTINGS)
            unknown.append(f"{place}: there is no setting {key!r}, so it is ignored. {suggestion}".strip())
            continue
        try:
            values[key], sources[key] = SETTINGS[key].parse(raw), "config.toml"
        except InvalidInput as error:
            problems.append(_located(error, place, f"Correct that line, or run `popug config set {key} VALUE`."))
    for key, setting in SETTINGS.items():
        if raw := environment.get(setting.variable):
            try:
                values[key], sources[key] = setting.parse(raw), setting.variable
            except InvalidInput as error:
                place = f"The environment variable {setting.variable}"
                problems.append(_located(error, place, f"Correct it, or run `unset {setting.variable}`."))
    unknown += _misspelt_variables(environment)
    return Settings(values, sources, tuple(problems), tuple(unknown))


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


def _place_in_file(file: Path, line: int | None) -> str:
    return str(file) if line is None else f"{file}, line {line}"


def _located(error: InvalidInput, place: str, hint: str) -> InvalidInput:
    """Return the error of a value, with the place of the value."""
    return InvalidInput(error.code, f"{place}: {error.message}", hint=hint, details={**error.details, "place": place})


def _misspelt_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable whose name resembles that of a setting; ignore all others."""
    from difflib import get_close_matches

    variables = {setting.variable for setting in SETTINGS.values()}
    sections = tuple({f"POPUG_{key.partition('.')[0].upper()}_" for key in SETTINGS})
    for name in sorted(environment):
        if name.startswith(sections) and name not in variables:
            for meant in get_close_matches(name, variables, n=1, cutoff=MISSPELT_SIMILARITY):
                yield f"The environment variable {name} does not belong to a setting. Did you mean {meant}?"
