"""A version of an event that only a newer program knows: identity publishes it before the receivers are upgraded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from popug_cli.bus.consumers import Consumer
from popug_cli.messages import envelope
from popug_cli.messages.base import EVENTS
from popug_cli.messages.identity import UserEmailChanged

OLDER, NEWER = UserEmailChanged.TYPE, "popug.identity.user_email_changed.v2"


@contextmanager
def published(*, newer: bool) -> Iterator[None]:
    """Publish the newer version within the block, if so asked."""
    UserEmailChanged.TYPE = NEWER if newer else OLDER
    try:
        yield
    finally:
        UserEmailChanged.TYPE = OLDER


def learn_newer() -> None:
    """Let the program know the newer version from now on."""
    EVENTS[NEWER] = UserEmailChanged
    envelope._decoder_of.cache_clear()


def forget_newer() -> None:
    """Let the program be the older one again."""
    if EVENTS.pop(NEWER, None):
        envelope._decoder_of.cache_clear()


def upgraded(consumer: Consumer) -> Consumer:
    """Return a consumer that knows the newer version, if the program does."""
    if NEWER not in EVENTS or OLDER not in consumer.types:
        return consumer
    newer = replace(consumer)
    object.__setattr__(newer, "types", (*newer.types, NEWER))
    return newer
