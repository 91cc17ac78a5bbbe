"""The topics of a cluster are created with what it promises, and each difference of an existing one is named."""

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # noqa: E402

from popug_cli.cluster.kafka.connection import KafkaConnection, connection_from  # noqa: E402
from popug_cli.cluster.kafka.topics import check_topics, create_topics  # noqa: E402

WRONG = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "CreateTime",
    "unclean.leader.election.enable": "true",
    "min.insync.replicas": "1",
    "max.message.bytes": "900000",
}


@pytest.fixture
def connection(brokers: RunningBrokers, settings: Settings) -> KafkaConnection:
    return connection_from(settings, brokers.address)


def make_topic(connection: KafkaConnection, name: str, partitions: int, replicas: int, config: dict[str, str]) -> None:
    client = AdminClient(dict(connection.options))
    client.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(30)


def refusal(connection: KafkaConnection, *names: str) -> PopugError:
    with pytest.raises(PopugError) as refused:
        check_topics(connection, names)
    return refused.value


def test_create_topics_twice_creates_once(connection: KafkaConnection, prefix: str) -> None:
    names = [f"{prefix}.{service}" for service in ("identity", "tasks")]
    assert create_topics(connection, names[:1]) == names[:1]
    assert create_topics(connection, names) == names[1:]
    assert create_topics(connection, names) == []
    check_topics(connection, names)


def test_every_difference_is_named_in_one_error(connection: KafkaConnection, prefix: str) -> None:
    wrong, missing, sound = f"{prefix}.wrong", f"{prefix}.missing", f"{prefix}.sound"
    make_topic(connection, wrong, 3, 1, WRONG)
    create_topics(connection, [sound])
    error = refusal(connection, sound, wrong, missing)
    assert (error.code, error.exit_status) == ("topics_differ", 6)
    faults = error.details["topics"]
    assert faults[missing] == ["it does not exist"]
    assert sorted(fault.split()[0] for fault in faults[wrong]) == sorted(["it", "its", *WRONG])
    assert all(fault in error.message for topic in faults.values() for fault in topic)
    assert sound not in error.message


@pytest.mark.parametrize("key", WRONG)
def test_wrong_setting_has_a_command_that_corrects_it(connection: KafkaConnection, prefix: str, key: str) -> None:
    make_topic(connection, f"{prefix}.tasks", 1, 3, {"message.timestamp.type": "LogAppendTime", key: WRONG[key]})
    error = refusal(connection, f"{prefix}.tasks")
    (fault,) = error.details["topics"][f"{prefix}.tasks"]
    assert fault.startswith(f"{key} is {WRONG[key]}")
    assert f"--add-config {key}=" in error.hint


def test_topic_for_one_broker_can_be_asked_for(connection: KafkaConnection, prefix: str) -> None:
    assert create_topics(connection, [f"{prefix}.tasks"], replication_factor=1) == [f"{prefix}.tasks"]
    check_topics(connection, [f"{prefix}.tasks"], replication_factor=1)
    assert "its replication factor is 1 instead of 3" in refusal(connection, f"{prefix}.tasks").message


def test_more_replicas_than_brokers_are_refused(connection: KafkaConnection, prefix: str) -> None:
    with pytest.raises(PopugError) as refused:
        create_topics(connection, [f"{prefix}.tasks"], replication_factor=4)
    assert "only 3 broker(s)" in refused.value.message


def test_name_that_kafka_refuses_is_an_input_error(connection: KafkaConnection) -> None:
    with pytest.raises(PopugError) as refused:
        create_topics(connection, ["not/a/name"])
    assert (refused.value.exit_status, refused.value.details["key"]) == (2, "cluster.prefix")
