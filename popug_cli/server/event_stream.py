"""Server-sent events: stream the log's events as they are published. Each page is read with the client's token."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.bus import EventPage, ListEvents
from popug_cli.server import http_errors
from popug_cli.server.served import Served
from popug_cli.server.thread_pools import ThreadPools

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 0.5
PAGE_EVENTS = 100
MAX_STREAMS = 100
LIST_EVENTS = DECLARATIONS[ListEvents]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client's subscription: its token, its filter, and the position to start after."""

    token: str | None
    query: ListEvents

    def after(self, page: EventPage) -> "Subscription":
        """Return the same subscription, starting after the last event of a page."""
        if page.cursor is not None:
            return replace(self, query=msgspec.structs.replace(self.query, cursor=page.cursor))
        return replace(self, query=msgspec.structs.replace(self.query, after=int(page.events[-1]["sequence"])))


class Feed:
    """Event streams with a limit on their number; they end when the server shuts down."""

    def __init__(self, company: Served, pools: ThreadPools, shutdown_requested: asyncio.Event) -> None:
        self._company = company
        self._pools = pools
        self._shutdown_requested = shutdown_requested
        self._stream_count = 0

    async def first_page(self, subscription: Subscription) -> EventPage:
        """Return the first page of existing events.

        Raise ``server_unavailable`` if there are too many streams, or the error of the query.
        """
        self._check_capacity(MAX_STREAMS - 1)
        return await self._read_page(subscription)

    async def stream(self, subscription: Subscription, page: EventPage) -> AsyncGenerator[bytes]:
        """Yield `page`, then new events, and a comment as a heartbeat if there are none for a while.

        An error ends the stream with a ``problem`` event.
        """
        self._stream_count += 1
        silent_seconds = 0.0
        try:
            self._check_capacity(MAX_STREAMS)  # by now, streams opened at the same time are counted
            yield b"retry: 1000\n\n"
            while not self._shutdown_requested.is_set():
                if page.events:
                    yield encode_page(page)
                    silent_seconds = 0.0
                    subscription = subscription.after(page)
                if len(page.events) < PAGE_EVENTS:
                    silent_seconds += await self._wait_for_poll()
                if silent_seconds >= HEARTBEAT_SECONDS:
                    yield b": still here\n\n"
                    silent_seconds = 0.0
                page = await self._read_page(subscription)
        except PopugError as error:
            yield b"event: problem\ndata: " + http_errors.encode(http_errors.problem_of(error)) + b"\n\n"
        finally:
            self._stream_count -= 1

    def _check_capacity(self, limit: int) -> None:
        if self._stream_count > limit:
            raise Unavailable("server_unavailable", "Too many clients follow events.", hint="Try again later.")

    async def _read_page(self, subscription: Subscription) -> EventPage:
        def read_page() -> EventPage:
            page: EventPage = self._company.perform(subscription.query, subscription.token).answer
            return page

        return await self._pools.run(LIST_EVENTS, read_page)

    async def _wait_for_poll(self) -> float:
        """Wait for ``POLL_SECONDS`` or until the shutdown; return the seconds."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._shutdown_requested.wait()
        except TimeoutError:
            pass
        return POLL_SECONDS


def encode_page(page: EventPage) -> bytes:
    """Encode the events for the stream. The id of each is its position; a cursor is the id of the last one alone."""
    if page.cursor is None:
        return b"".join(encode_event(event, str(event["sequence"])) for event in page.events)
    *others, last = page.events
    return b"".join((*(encode_event(event, "") for event in others), encode_event(last, page.cursor)))


def encode_event(envelope: dict[str, Any], event_id: str) -> bytes:
    """Encode an event for the stream. Its data is one line, because JSON escapes line breaks."""
    event_type = str(envelope.get("type", "")).translate({10: " ", 13: " "})
    data = json.dumps(envelope, separators=(",", ":"))
    id_line = f"id: {event_id}\n" if event_id else ""
    return f"{id_line}event: {event_type}\ndata: {data}\n\n".encode()
