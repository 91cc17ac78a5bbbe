"""Server-sent events: stream the log's events as they are published, each read with the client's own permissions."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.bus import ListEvents
from popug_cli.server import http_errors
from popug_cli.server.thread_pools import ThreadPools

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 0.5
PAGE_EVENTS = 100
MAX_LISTENERS = 100
LIST_EVENTS = DECLARATIONS[ListEvents]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client's subscription: its token, its filter, and the position to start after."""

    token: str | None
    query: ListEvents

    def after(self, position: int) -> "Subscription":
        """Return the same subscription, starting after `position`."""
        return replace(self, query=msgspec.structs.replace(self.query, after=position))


class Feed:
    """Event streams with a limit on their number; they end when the server shuts down."""

    def __init__(self, company: ServedCompany, pools: ThreadPools, ending: asyncio.Event) -> None:
        self._company = company
        self._pools = pools
        self._ending = ending
        self._listeners = 0

    async def first_page(self, subscription: Subscription) -> list[dict[str, Any]]:
        """Return the first page of existing events; raise ``server_unavailable`` or a permission error."""
        self._check_capacity(MAX_LISTENERS - 1)
        return await self._page(subscription)

    async def stream(self, subscription: Subscription, page: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        """Yield `page`, then new events, with a comment as a heartbeat. End with a ``problem`` event on an error."""
        self._listeners += 1
        silent_seconds = 0.0
        try:
            self._check_capacity(MAX_LISTENERS)  # by now, streams opened at the same time are counted
            yield b"retry: 1000\n\n"
            while not self._ending.is_set():
                if page:
                    yield b"".join(map(encode_event, page))
                    silent_seconds = 0.0
                    subscription = subscription.after(int(page[-1]["sequence"]))
                if len(page) < PAGE_EVENTS:
                    silent_seconds += await self._pause()
                if silent_seconds >= HEARTBEAT_SECONDS:
                    yield b": still here\n\n"
                    silent_seconds = 0.0
                page = await self._page(subscription)
        except PopugError as error:
            yield b"event: problem\ndata: " + http_errors.encode(http_errors.problem_of(error)) + b"\n\n"
        finally:
            self._listeners -= 1

    def _check_capacity(self, limit: int) -> None:
        if self._listeners > limit:
            raise Unavailable("server_unavailable", "Too many clients follow events.", hint="Try again later.")

    async def _page(self, subscription: Subscription) -> list[dict[str, Any]]:
        work = lambda: self._company.perform(subscription.query, subscription.token).answer.events  # noqa: E731 - one line
        return await self._pools.run(LIST_EVENTS, work)

    async def _pause(self) -> float:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._ending.wait()
        except TimeoutError:
            pass
        return POLL_SECONDS


def encode_event(envelope: dict[str, Any]) -> bytes:
    """Encode an event for the stream. Its data is one line, because JSON escapes line breaks."""
    kind = str(envelope.get("type", "")).translate({10: " ", 13: " "})
    data = json.dumps(envelope, separators=(",", ":"))
    return f"id: {envelope['sequence']}\nevent: {kind}\ndata: {data}\n\n".encode()
