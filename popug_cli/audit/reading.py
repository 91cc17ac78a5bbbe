"""A fast reader of very many events: the general decoder of envelopes takes far longer."""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Generic, TypeVar

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE, FREQUENT_TYPES, IS_RARE
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.base import Event

E = TypeVar("E", bound=Event)


class CheckedEvent(msgspec.Struct, Generic[E], frozen=True):
    """The fields of an event that are checked; ``time`` is the text in the envelope."""

    id: str
    time: str
    data: E
    causationid: str | None = None


@lru_cache(maxsize=1024)
def normalize_time(instant: str) -> str:
    """Normalize a timestamp to the stored format; return any other text unchanged."""
    try:
        return to_rfc3339(from_rfc3339(instant))
    except ValueError:
        return instant


def read_events(context: Context, kind: type[E]) -> Iterator[tuple[int, CheckedEvent[E] | None]]:
    """Yield position and event for every event that is stored in the newest version of a kind, ordered by position.

    The event is None if it does not fit its schema. Events stored in an older version are left out.
    """
    read = _decoder(kind).decode
    rest = "ORDER BY sequence" if kind.TYPE in FREQUENT_TYPES else f"AND {IS_RARE} ORDER BY +sequence"
    statement = f"SELECT sequence, {ENVELOPE} FROM bus_log WHERE type = ? {rest}"
    for sequence, envelope in context.connection.stream(statement, kind.TYPE):
        try:
            yield sequence, read(envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            yield sequence, None


@cache
def _decoder(kind: type[E]) -> "msgspec.json.Decoder[CheckedEvent[E]]":
    return msgspec.json.Decoder(CheckedEvent[kind])  # type: ignore[valid-type]
