"""Records of a topic that are sent again: duplicates that come late and in the order of before."""

import random
import time

SECONDS = 10.0
TRY_SECONDS = 60.0
MAX_RECORDS = 200


def repeat_records(brokers: str, topic: str, chance: random.Random) -> int:
    """Do what ``repeat_once`` does; try again while a broker is down."""
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + TRY_SECONDS
    while True:
        try:
            return repeat_once(brokers, topic, chance)
        except KafkaException:
            if time.monotonic() > deadline:
                raise


def repeat_once(brokers: str, topic: str, chance: random.Random) -> int:
    """Read up to ``MAX_RECORDS`` records from a random offset of a topic, and produce them again; return how many."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "chaos", "enable.auto.commit": False, "log_level": 0,
        "enable.partition.eof": False,
    })  # fmt: skip
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=SECONDS) or (0, 0)
        if high <= low:
            return 0
        consumer.assign([TopicPartition(topic, 0, chance.randrange(low, high))])
        records = consumer.consume(min(MAX_RECORDS, high - low), timeout=2.0)
    finally:
        consumer.close()
    producer = Producer({"bootstrap.servers": brokers, "acks": "all", "log_level": 0})
    for record in records:
        if record.error() is None:
            producer.produce(topic, value=record.value(), key=record.key(), headers=record.headers(), partition=0)
    return len(records) - producer.flush(SECONDS)
