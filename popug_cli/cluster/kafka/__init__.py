"""The topics of a cluster on Kafka, through librdkafka (confluent-kafka).

The package is imported only where brokers are configured.

``connection.py`` makes the options of a client from the settings, and ``errors.py`` the sentences of errors.
``topic.py`` is the port ``Topic`` of ``cluster/links.py``, with ``producer.py`` and ``reader.py``. ``topics.py``
creates and checks topics, and ``brokers.py`` describes the brokers for ``popug cluster status``.
"""

from popug_cli.kernel.errors import Unavailable


def require_driver() -> None:
    """Raise ``brokers_unavailable`` if confluent-kafka is not installed."""
    try:
        import confluent_kafka  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise Unavailable(
            "brokers_unavailable",
            f"A cluster needs a package that is not installed ({error.name or 'librdkafka'}).",
            hint="Install popug with its extra: pip install 'popug[cluster]'.",
        ) from error
