"""What the brokers refuse, or do not answer, is an error with a sentence of its own and a command that helps."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popug_cli.bus.records import TopicRecord
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings, load_settings
from tests.cluster.brokers import USERNAME
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

from confluent_kafka.admin import (  # type: ignore[attr-defined] # noqa: E402
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from popug_cli.cluster.kafka import brokers as brokers_state  # noqa: E402
from popug_cli.cluster.kafka import producer, reader  # noqa: E402
from popug_cli.cluster.kafka.brokers import read_state  # noqa: E402
from popug_cli.cluster.kafka.connection import KafkaConnection, connection_from  # noqa: E402
from popug_cli.cluster.kafka.topic import KafkaTopic  # noqa: E402
from popug_cli.cluster.kafka.topics import check_topics, create_topics  # noqa: E402

RECORDS = [TopicRecord(b"key", b"value", [])]
NO_BROKER = "127.0.0.1:9"


@pytest.fixture
def plain(brokers: RunningBrokers, settings: Settings) -> KafkaConnection:
    return connection_from(settings, brokers.address)


@pytest.fixture
def log_in(brokers: RunningBrokers, tmp_path: Path) -> Callable[..., KafkaConnection]:
    def connect(password: str = brokers.password, address: str = "", **changes: str) -> KafkaConnection:
        file = tmp_path / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        environment = {
            "POPUG_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
            "POPUG_KAFKA_SASL_MECHANISM": "PLAIN",
            "POPUG_KAFKA_SASL_USERNAME": USERNAME,
            "POPUG_KAFKA_SASL_PASSWORD_FILE": str(file),
            **changes,
        }
        return connection_from(load_settings(tmp_path / "config.toml", environment), address or brokers.sasl_address)

    return connect


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(producer.OPTIONS, "message.timeout.ms", 2_000)
    monkeypatch.setattr(producer, "STALLED_SECONDS", 2.5)
    monkeypatch.setattr(reader, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(brokers_state, "STATUS_SECONDS", 2.0)


@pytest.fixture
def topics() -> Iterator[Callable[[KafkaConnection, str], KafkaTopic]]:
    opened: list[KafkaTopic] = []

    def open_topic(connection: KafkaConnection, name: str) -> KafkaTopic:
        opened.append(KafkaTopic(connection, name))
        return opened[-1]

    yield open_topic
    for topic in opened:
        topic.close()


def refusal(use: Callable[[], Any]) -> PopugError:
    with pytest.raises(PopugError) as refused:
        use()
    return refused.value


OpenTopic = Callable[[KafkaConnection, str], KafkaTopic]


def test_login_gives_access(
    log_in: Callable[..., KafkaConnection], plain: KafkaConnection, topics: OpenTopic, prefix: str
) -> None:
    create_topics(plain, [f"{prefix}.tasks"])
    topic = topics(log_in(), f"{prefix}.tasks")
    topic.produce(RECORDS)
    assert len(topic.read(0, 10)) == 1


def test_login_over_tls_gives_access(
    brokers: RunningBrokers,
    log_in: Callable[..., KafkaConnection],
    plain: KafkaConnection,
    topics: OpenTopic,
    prefix: str,
) -> None:
    create_topics(plain, [f"{prefix}.tasks"])
    encrypted = {"POPUG_KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "POPUG_KAFKA_CA_FILE": brokers.certificate}
    topic = topics(log_in(address=brokers.tls_address, **encrypted), f"{prefix}.tasks")
    topic.produce(RECORDS)
    assert len(topic.read(0, 10)) == 1
    del encrypted["POPUG_KAFKA_CA_FILE"]
    untrusted = topics(log_in(address=brokers.tls_address, **encrypted), f"{prefix}.tasks")
    for error in (refusal(lambda: untrusted.produce(RECORDS)), refusal(lambda: untrusted.read(0, 10))):
        assert error.message.startswith("No TLS connection to the Kafka brokers")
        assert "popug config set kafka.ca_file" in error.hint
        assert brokers.password not in error.message


def test_wrong_password_is_named(
    log_in: Callable[..., KafkaConnection], topics: OpenTopic, prefix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = secrets.token_urlsafe(16)
    connection = log_in(secret)
    topic = topics(connection, f"{prefix}.tasks")
    uses: list[Callable[[], Any]] = [
        lambda: topic.produce(RECORDS),
        lambda: topic.read(0, 10),
        lambda: create_topics(connection, [f"{prefix}.tasks"]),
        lambda: check_topics(connection, [f"{prefix}.tasks"]),
        lambda: read_state(connection, [f"{prefix}.tasks"]),
    ]
    for error in map(refusal, uses):
        assert (error.code, error.exit_status) == ("brokers_unavailable", 8)
        assert f"refuse the login of {USERNAME}" in error.message
        assert secret not in f"{error.message} {error.hint}"
    assert capfd.readouterr() == ("", "")


def test_login_without_a_permission_is_named(
    log_in: Callable[..., KafkaConnection], plain: KafkaConnection, topics: OpenTopic, prefix: str
) -> None:
    name = f"{prefix}.tasks"
    create_topics(plain, [name])
    denied = AclBinding(
        ResourceType.TOPIC, name, ResourcePatternType.LITERAL, f"User:{USERNAME}", "*",
        AclOperation.ALL, AclPermissionType.DENY,
    )  # fmt: skip
    client = AdminClient(dict(plain.options))
    for result in client.create_acls([denied]).values():
        result.result(30)
    error = refusal(lambda: topics(log_in(), name).produce(RECORDS))
    assert f"do not allow {USERNAME} to use topic {name}" in error.message
    assert "kafka-acls.sh" in error.hint
    assert f"or {USERNAME} may not use it" in refusal(lambda: check_topics(log_in(), [name])).message


@pytest.mark.usefixtures("quick")
def test_missing_topic_is_named(plain: KafkaConnection, topics: OpenTopic, prefix: str) -> None:
    topic = topics(plain, f"{prefix}.tasks")
    for use in (lambda: topic.produce(RECORDS), lambda: topic.read(0, 10)):
        error = refusal(use)
        assert (error.code, error.exit_status) == ("topic_missing", 3)
        assert "kafka-topics.sh" in error.hint
    create_topics(plain, [f"{prefix}.tasks"])
    topic.produce(RECORDS)
    assert len(topic.read(0, 10)) == 1


def test_record_too_large_for_the_topic_is_named(plain: KafkaConnection, topics: OpenTopic, prefix: str) -> None:
    name = f"{prefix}.tasks"
    small = NewTopic(name, 1, 3, config={"max.message.bytes": "1000"})
    client = AdminClient(dict(plain.options))
    client.create_topics([small])[name].result(30)
    error = refusal(lambda: topics(plain, name).produce([TopicRecord(b"key", secrets.token_bytes(2000), [])]))
    assert (error.code, error.exit_status) == ("topics_differ", 6)
    assert "max.message.bytes" in error.hint


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("address", [NO_BROKER, "no-such-host.invalid:9092"])
def test_brokers_that_do_not_answer_are_named(settings: Settings, topics: OpenTopic, address: str) -> None:
    connection = connection_from(settings, address)
    topic = topics(connection, "popug.tasks")
    for use in (lambda: topic.produce(RECORDS), lambda: topic.read(0, 10), lambda: read_state(connection, [])):
        error = refusal(use)
        assert error.code == "brokers_unavailable"
        assert error.message.startswith(f"No Kafka broker at {address} answers (")


@pytest.mark.usefixtures("quick")
def test_reason_is_the_same_each_time(settings: Settings, topics: OpenTopic) -> None:
    topic = topics(connection_from(settings, NO_BROKER), "popug.tasks")
    assert len({refusal(lambda: topic.read(0, 10)).message for _ in range(3)}) == 1  # a thread then logs it once
