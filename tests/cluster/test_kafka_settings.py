"""The settings of the connection to the brokers: each mistake is named, and the password appears nowhere."""

from pathlib import Path

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import read_settings
from tests.cluster.kafka_programs import require_driver

require_driver()

from popug_cli.cluster.kafka.connection import KafkaConnection, connection_from  # noqa: E402

SECRET = "correct horse"  # the password of these tests
ADDRESS = "kafka1:9092,[::1]:9092,127.0.0.1"


def connect(folder: Path, brokers: str = ADDRESS, **settings: object) -> KafkaConnection:
    environment = {f"POPUG_KAFKA_{key.upper()}": str(value) for key, value in settings.items()}
    return connection_from(read_settings(folder / "config.toml", environment), brokers)


def refusal(folder: Path, brokers: str = ADDRESS, **settings: object) -> PopugError:
    with pytest.raises(PopugError) as refused:
        connect(folder, brokers, **settings)
    assert SECRET not in f"{refused.value.message} {refused.value.hint} {refused.value.details}"
    return refused.value


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text(f"{SECRET}\n")
    return file


def test_plaintext_has_no_login(tmp_path: Path) -> None:
    options = connect(tmp_path).options
    assert options["security.protocol"] == "plaintext"
    assert options["bootstrap.servers"] == ADDRESS
    assert not [key for key in options if key.startswith(("sasl", "ssl"))]


def test_login_and_tls_are_passed_on(tmp_path: Path, password_file: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    connection = connect(
        tmp_path,
        security_protocol="sasl_ssl",
        sasl_username="shop",
        sasl_password_file=password_file,
        ca_file=authority,
    )
    assert connection.options["sasl.mechanism"] == "SCRAM-SHA-512"
    assert connection.options["sasl.username"] == "shop"
    assert connection.options["sasl.password"] == SECRET
    assert connection.options["ssl.ca.location"] == str(authority)
    assert SECRET not in repr(connection)


@pytest.mark.parametrize("brokers", ["", " ", "a:9092,", "a b:9092", "a:port", "a:0", "a:65536", "a:1:2", "http://a:1"])
def test_address_that_is_none_is_refused(tmp_path: Path, brokers: str) -> None:
    assert refusal(tmp_path, brokers).code == "invalid_setting"


def test_password_that_others_can_read_is_refused(tmp_path: Path, password_file: Path) -> None:
    password_file.chmod(0o644)
    error = refusal(tmp_path, security_protocol="sasl_ssl", sasl_username="shop", sasl_password_file=password_file)
    assert error.code == "insecure_file"
    assert f"chmod 600 {password_file}" in error.hint


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a\0b"])
def test_file_without_a_password_is_refused(tmp_path: Path, password_file: Path, content: bytes) -> None:
    password_file.write_bytes(content)
    error = refusal(tmp_path, security_protocol="sasl_ssl", sasl_username="shop", sasl_password_file=password_file)
    assert (error.code, error.details["key"]) == ("invalid_setting", "kafka.sasl_password_file")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"security_protocol": "sasl_ssl"}, "kafka.sasl_username"),
        ({"security_protocol": "sasl_ssl", "sasl_username": "shop"}, "kafka.sasl_password_file"),
        (
            {"security_protocol": "sasl_ssl", "sasl_username": "shop", "sasl_password_file": "/no/such/file"},
            "kafka.sasl_password_file",
        ),
        ({"security_protocol": "ssl", "ca_file": "/no/such/file"}, "kafka.ca_file"),
        ({"security_protocol": "ssl", "ca_file": "/etc/hostname"}, "kafka.ca_file"),
        ({"sasl_username": "shop"}, "kafka.security_protocol"),
        ({"security_protocol": "SASL"}, "kafka.security_protocol"),
    ],
)
def test_incomplete_login_names_the_setting(tmp_path: Path, settings: dict[str, str], key: str) -> None:
    error = refusal(tmp_path, **settings)
    assert (error.code, error.details["key"]) == ("invalid_setting", key)
