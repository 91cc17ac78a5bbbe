"""Translate the errors of Kafka into ``PopugError``: one sentence each, with a command that helps.

The codes: https://kafka.apache.org/protocol.html#protocol_error_codes; those of the client begin with an underscore.
"""

import re
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from popug_cli.cluster.kafka.connection import KAFKA_LOG, KafkaConnection
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound, PopugError, Unavailable
from popug_cli.kernel.settings import CLUSTER_PREFIX
from popug_cli.messages.topics import CREATED_SETTINGS, FIXED_SETTINGS, MIN_IN_SYNC, PARTITIONS, REPLICATION_FACTOR

UNAVAILABLE = "brokers_unavailable"
ANSWER_SECONDS = 2.0  # for a diagnosis
STATUS_HINT = "Run `popug cluster status` to see which brokers are up."
LOGIN_REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
NOT_PERMITTED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
FEW_REPLICAS = {KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND}
TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
NO_TLS = {KafkaError._SSL}
NO_ANSWER = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError.REQUEST_TIMED_OUT,
}
_VARYING = re.compile(
    r"^\S+/(?:bootstrap|\d+): |Connect to \S+ failed: | \(after \d+ms in state \w+(?:, \d+ [^)]*)?\)"
    r"|, \d+ identical error\(s\) suppressed"
)
LASTING = LOGIN_REFUSED | NO_TLS  # waiting does not help


class ClientTrouble:
    """The last error of a client that concerns no single record; it is the client's ``error_cb``."""

    def __init__(self) -> None:
        self.latest: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Store an error."""
        if self.is_lasting or (self.latest is not None and error.code() == KafkaError._ALL_BROKERS_DOWN):
            return  # the error before it says why
        self.latest = error

    @property
    def is_lasting(self) -> bool:
        """Return whether the client cannot recover from the error by waiting."""
        return self.latest is not None and (self.latest.code() in LASTING or self.latest.fatal())


def open_client(kind: Any, connection: KafkaConnection, options: dict[str, Any]) -> tuple[Any, ClientTrouble]:
    """Return a client of the class ``kind`` and its trouble; raise ``invalid_setting`` if it refuses the options."""
    trouble = ClientTrouble()
    try:
        client = kind({**connection.options, **options, "error_cb": trouble}, logger=KAFKA_LOG)
    except KafkaException as error:
        raise InvalidInput(
            "invalid_setting",
            f"The settings of the connection to Kafka are not valid ({reason_of(error)}).",
            hint="Run `popug config show` and correct those that begin with kafka.",
        ) from error
    return client, trouble


def reason_of(error: KafkaError | KafkaException) -> str:
    """Return the text of an error in one line, without what differs each time: the broker and the milliseconds."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    text = inner.str() if isinstance(inner, KafkaError) else str(inner)
    return " ".join(_VARYING.sub("", text).split()).rstrip(".")


def error_in(exception: KafkaException) -> KafkaError:
    """Return the error that an exception carries."""
    inner = exception.args[0]
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(inner))


def broker_error(error: KafkaError, connection: KafkaConnection, topic: str = "") -> PopugError:
    """Return the ``PopugError`` for an error of the brokers or of a client that concerns ``topic``."""
    if error.code() in NO_TOPIC and not topic:
        return _other(error, connection, topic)
    return _BY_CODE.get(error.code(), _other)(error, connection, topic)


def _other(error: KafkaError, connection: KafkaConnection, topic: str) -> Unavailable:
    what = f" for topic {topic}" if topic else ""
    return Unavailable(
        UNAVAILABLE,
        f"The Kafka brokers at {connection.address} report an error{what} ({reason_of(error)}).",
        hint=STATUS_HINT,
    )


def _login_refused(_: KafkaError, connection: KafkaConnection, _topic: str) -> Unavailable:
    return Unavailable(
        UNAVAILABLE,
        f"The Kafka brokers at {connection.address} refuse the login of {connection.username or 'popug'}.",
        hint="Run `popug config show` and correct kafka.sasl_username, kafka.sasl_mechanism or the password in"
        " kafka.sasl_password_file.",
    )


def _not_created(error: KafkaError, connection: KafkaConnection, topic: str) -> Unavailable:
    return Unavailable(
        UNAVAILABLE,
        f"The Kafka brokers at {connection.address} do not create topic {topic} ({reason_of(error)}).",
        hint=f"Start {REPLICATION_FACTOR} brokers, since a topic has {REPLICATION_FACTOR} replicas. {STATUS_HINT}",
    )


def _invalid_name(error: KafkaError, _connection: KafkaConnection, topic: str) -> InvalidInput:
    return InvalidInput(
        "invalid_setting",
        f"Kafka does not accept the name of topic {topic} ({reason_of(error)}).",
        hint=f"Run `popug config set {CLUSTER_PREFIX} NAME` with letters, digits and dashes.",
        details={"key": CLUSTER_PREFIX},
    )


def _disk_error(_: KafkaError, _connection: KafkaConnection, topic: str) -> Unavailable:
    return Unavailable(
        UNAVAILABLE,
        f"A Kafka broker cannot write topic {topic} to its disk, which may be full.",
        hint="Run `df -h` on the machines of the brokers, make room, and start the broker again.",
    )


def _no_tls(error: KafkaError, connection: KafkaConnection, _topic: str) -> Unavailable:
    return Unavailable(
        UNAVAILABLE,
        f"No TLS connection to the Kafka brokers at {connection.address} is possible ({reason_of(error)}).",
        hint="Run `popug config set kafka.ca_file FILE` with the authority that signed their certificates.",
    )


def unreachable(connection: KafkaConnection, reason: str) -> Unavailable:
    """Return the error for brokers that do not answer."""
    return Unavailable(
        UNAVAILABLE,
        f"No Kafka broker at {connection.address} answers ({reason}).",
        hint="Start the brokers, or run `popug config show` and correct cluster.brokers and kafka.security_protocol.",
    )


def missing_topic(topic: str, connection: KafkaConnection) -> NotFound:
    """Return the error for a topic that does not exist, or that Kafka hides from a login without a permission."""
    return NotFound(
        "topic_missing",
        f"The Kafka brokers at {connection.address} do not know the topic {topic}: {absence(connection)}.",
        hint=f"Create it: {create_command(topic, connection)}",
        details={"topic": topic},
    )


def absence(connection: KafkaConnection) -> str:
    """Return why a topic is not found. Kafka hides a topic from a login that may not describe it."""
    return "it does not exist" + (f", or {connection.username} may not use it" if connection.username else "")


def create_command(topic: str, connection: KafkaConnection) -> str:
    """Return the command of Kafka that creates a topic as popug does."""
    values = {**FIXED_SETTINGS, **CREATED_SETTINGS, "min.insync.replicas": str(MIN_IN_SYNC)}
    settings = " ".join(f"--config {key}={value}" for key, value in values.items())
    return (
        f"`kafka-topics.sh --bootstrap-server {connection.address} --create --topic {topic} --partitions {PARTITIONS}"
        f" --replication-factor {REPLICATION_FACTOR} {settings}`."
    )


def few_replicas(topic: str, in_sync: int | None = None, replicas: int = 0) -> Unavailable:
    """Return the error for a topic that has too few replicas in sync to take a record."""
    count = f" ({in_sync} of {replicas})" if in_sync is not None else ""
    return Unavailable(
        UNAVAILABLE,
        f"Topic {topic} takes no records, because too few of its replicas are in sync{count}.",
        hint=f"Start the brokers that are down. {STATUS_HINT}",
        details={"topic": topic},
    )


def too_large(connection: KafkaConnection, topic: str) -> Conflict:
    """Return the error for a topic that refuses a record for its size."""
    return Conflict(
        "topics_differ",
        f"Topic {topic} refuses a record, because it is larger than its max.message.bytes.",
        hint=f"Run `kafka-configs.sh --bootstrap-server {connection.address} --alter --entity-type topics"
        f" --entity-name {topic} --add-config max.message.bytes={CREATED_SETTINGS['max.message.bytes']}`.",
        details={"topic": topic},
    )


def not_permitted(connection: KafkaConnection, topic: str) -> Unavailable:
    """Return the error for a login that may not use a topic, or without one the cluster."""
    what, option = (f"use topic {topic}", f"--topic {topic}") if topic else ("do this", "--cluster")
    name = connection.username or "ANONYMOUS"
    return Unavailable(
        UNAVAILABLE,
        f"The Kafka brokers at {connection.address} do not allow {name} to {what}.",
        hint=f"Run `kafka-acls.sh --bootstrap-server {connection.address} --add --allow-principal User:{name}"
        f" --operation All {option}`.",
    )


def diagnose(
    client: Any, trouble: ClientTrouble, connection: KafkaConnection, topic: str, seconds: float
) -> PopugError:
    """Return why the brokers did not do their work on a topic within ``seconds``, by asking them for its state."""
    if trouble.latest is not None and trouble.is_lasting:
        return broker_error(trouble.latest, connection, topic)
    try:
        found = client.list_topics(timeout=ANSWER_SECONDS).topics.get(topic)
    except KafkaException as error:
        return broker_error(trouble.latest or error_in(error), connection, topic)
    if found is None:
        return missing_topic(topic, connection)
    if found.error is not None:
        return broker_error(found.error, connection, topic)
    partition = found.partitions.get(0)
    if partition is not None and len(partition.isrs) < len(partition.replicas):
        return few_replicas(topic, len(partition.isrs), len(partition.replicas))
    return Unavailable(
        UNAVAILABLE,
        f"The Kafka brokers at {connection.address} did not answer for topic {topic} within {seconds:.0f} s.",
        hint=f"Start the brokers that are down. {STATUS_HINT}",
        details={"topic": topic},
    )


_Translation = Callable[[KafkaError, KafkaConnection, str], PopugError]
_BY_CODE: dict[int, _Translation] = {
    **dict.fromkeys(LOGIN_REFUSED, _login_refused),
    **dict.fromkeys(NO_TLS, _no_tls),
    **dict.fromkeys(NO_TOPIC, lambda error, connection, topic: missing_topic(topic, connection)),
    **dict.fromkeys(NOT_PERMITTED, lambda error, connection, topic: not_permitted(connection, topic)),
    **dict.fromkeys(FEW_REPLICAS, lambda error, connection, topic: few_replicas(topic)),
    **dict.fromkeys(TOO_LARGE, lambda error, connection, topic: too_large(connection, topic)),
    **dict.fromkeys(NO_ANSWER, lambda error, connection, topic: unreachable(connection, reason_of(error))),
    KafkaError.KAFKA_STORAGE_ERROR: _disk_error,
    KafkaError.INVALID_REPLICATION_FACTOR: _not_created,
    KafkaError.POLICY_VIOLATION: _not_created,
    KafkaError.TOPIC_EXCEPTION: _invalid_name,
}
