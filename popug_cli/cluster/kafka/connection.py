"""The options of a client of Kafka, from the settings: addresses, TLS and the login.

The password is read from a file, and is in the options only: not in an error, the log or the status.
The names of the options: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

import logging
import os
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popug_cli.kernel.errors import InvalidInput, NotAuthenticated
from popug_cli.kernel.settings import BROKERS, Settings
from popug_cli.platform.files import exposure_of, read_regular_file

SECURITY_PROTOCOL, CA_FILE = "kafka.security_protocol", "kafka.ca_file"
MECHANISM, USERNAME, PASSWORD_FILE = "kafka.sasl_mechanism", "kafka.sasl_username", "kafka.sasl_password_file"
KEYS = (SECURITY_PROTOCOL, CA_FILE, MECHANISM, USERNAME, PASSWORD_FILE, BROKERS)
CLIENT_NAME = "popug"
SOCKET_TIMEOUT_MS = 10_000  # a stopped broker whose connections stay open delays a client this long
SETUP_TIMEOUT_MS = 5_000
MAX_RECONNECT_MS = 1_000
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")

KAFKA_LOG = logging.getLogger("popug.kafka")


def _lower_level(record: logging.LogRecord) -> bool:
    """Give a line of librdkafka the level INFO, because popug reports each failure as an error of its own.

    Return False for a line on a failed connection: the client writes one at each attempt, many times a second.
    """
    record.levelno, record.levelname = logging.INFO, "INFO"
    is_attempt = record.getMessage().startswith("FAIL ")
    record.msg = f"Kafka client: {record.msg}"
    return not is_attempt


KAFKA_LOG.addFilter(_lower_level)


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """The addresses of the brokers, the name to log in with (empty without a login), and the options of a client."""

    address: str
    username: str
    options: Mapping[str, Any] = field(repr=False)


def connection_from(settings: Settings, brokers: str) -> KafkaConnection:
    """Return the connection to brokers (``HOST:PORT``, joined by commas) that the settings describe; do not connect.

    Raise ``invalid_setting``, or ``insecure_file`` if other users can read the file with the password.
    """
    for problem in settings.problems:  # a default in its place may be less secure than what was meant
        if problem.details.get("key") in (None, *KEYS):
            raise problem
    options: dict[str, Any] = {
        "bootstrap.servers": _checked_addresses(brokers),
        "client.id": CLIENT_NAME,
        "security.protocol": settings.text(SECURITY_PROTOCOL),
        "socket.timeout.ms": SOCKET_TIMEOUT_MS,
        "socket.connection.setup.timeout.ms": SETUP_TIMEOUT_MS,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": MAX_RECONNECT_MS,
        "log.connection.close": False,
    }
    protocol, username = settings.text(SECURITY_PROTOCOL), settings.text(USERNAME)
    if protocol.endswith("ssl") and settings.text(CA_FILE):
        options["ssl.ca.location"] = _checked_ca_file(settings.text(CA_FILE))
    if protocol.startswith("sasl"):
        options["sasl.mechanism"] = settings.text(MECHANISM)
        options["sasl.username"] = _required(username, USERNAME)
        options["sasl.password"] = _read_password(_required(settings.text(PASSWORD_FILE), PASSWORD_FILE))
    elif username:
        raise InvalidInput(
            "invalid_setting",
            f"{USERNAME} is set, but {SECURITY_PROTOCOL} is {protocol}, which has no login.",
            hint=f"Run `popug config set {SECURITY_PROTOCOL} sasl_ssl`, or `popug config set {USERNAME} ''`.",
            details={"key": SECURITY_PROTOCOL},
        )
    return KafkaConnection(brokers, username, options)


def _checked_addresses(brokers: str) -> str:
    addresses = [address.strip() for address in brokers.split(",")]
    for address in addresses:
        match = _ADDRESS.fullmatch(address)
        if not match or not 0 < int(match["port"] or 9092) < 65536:
            what = f"{address!r} is not the address of a Kafka broker" if address else "An address of a broker is empty"
            raise InvalidInput(
                "invalid_setting",
                f"{what}, in {BROKERS}: it must be HOST:PORT." if brokers else f"{BROKERS} names no Kafka broker.",
                hint="Write the addresses as kafka1:9092,kafka2:9092, in POPUG_BROKERS or with"
                f" `popug config set {BROKERS} ADDRESSES`.",
                details={"key": BROKERS},
            )
    return ",".join(addresses)


def _required(value: str, key: str) -> str:
    if not value:
        raise InvalidInput(
            "invalid_setting",
            f"The login at the Kafka brokers needs {key}, which is empty.",
            hint=f"Run `popug config set {key} VALUE`.",
            details={"key": key},
        )
    return value


def _checked_ca_file(text: str) -> str:
    try:
        content, _ = read_regular_file(Path(text).expanduser())
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(CA_FILE, text) from error
    if b"-----BEGIN" not in content:
        raise InvalidInput(
            "invalid_setting",
            f"{text}, the {CA_FILE}, contains no PEM certificate.",
            hint=f"Run `popug config set {CA_FILE} FILE` with the file of an authority.",
            details={"key": CA_FILE},
        )
    return str(Path(text).expanduser())


def _read_password(text: str) -> str:
    """Return the first line of the password file."""
    file = Path(text).expanduser()
    try:
        content, status = read_regular_file(file)
        password = content.removeprefix(BOM_UTF8).decode().partition("\n")[0].removesuffix("\r")
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(PASSWORD_FILE, text) from error
    if exposure := exposure_of(status, os.geteuid()):
        raise NotAuthenticated(
            "insecure_file",
            f"{exposure} {file}, which has the password for the Kafka brokers.",
            hint=f"Run `chmod 600 {file}`, and change the password if it may have been read.",
            details={"path": str(file)},
        )
    if not password or "\0" in password:
        raise InvalidInput(
            "invalid_setting",
            f"The first line of {text}, the {PASSWORD_FILE}, is not a password.",
            hint=f"Write the password into the first line of {text}.",
            details={"key": PASSWORD_FILE},
        )
    return password


def _unreadable(key: str, file: str) -> InvalidInput:
    return InvalidInput(
        "invalid_setting",
        f"{file}, the {key}, cannot be read.",
        hint=f"Run `popug config set {key} FILE` with a file that this account can read.",
        details={"key": key},
    )
