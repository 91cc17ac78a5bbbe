"""Events as they come, as server-sent events: each is read from the log with the listener's own rights."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from popug_cli.app.resident import Resident
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.bus import ListEvents
from popug_cli.server import problems
from popug_cli.server.work import Workers

HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 0.5
PAGE_EVENTS = 100
MAX_LISTENERS = 100
LISTENING = DECLARATIONS[ListEvents]


@dataclass(frozen=True, slots=True)
class Listening:
    """Who listens to what, from where on."""

    token: str | None
    asked: ListEvents

    def after(self, position: int) -> "Listening":
        """The same from another position on."""
        return replace(self, asked=msgspec.structs.replace(self.asked, after=position))


class Feed:
    """Streams of events, as many as are allowed at a time, until the server ends."""

    def __init__(self, resident: Resident, workers: Workers, ending: asyncio.Event) -> None:
        self._resident = resident
        self._workers = workers
        self._ending = ending
        self._listeners = 0

    async def first_page(self, listening: Listening) -> list[dict[str, Any]]:
        """What is there already; raises what speaks against listening."""
        self._check_room(MAX_LISTENERS - 1)
        return await self._page(listening)

    async def stream(self, listening: Listening, page: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        """The page and what follows it, a comment now and then, and a last word where the right to listen ends."""
        self._listeners += 1
        silent_seconds = 0.0
        try:
            self._check_room(MAX_LISTENERS)  # who came in at the same time counts by now
            yield b"retry: 1000\n\n"
            while not self._ending.is_set():
                if page:
                    yield b"".join(map(told, page))
                    silent_seconds = 0.0
                    listening = listening.after(int(page[-1]["sequence"]))
                if len(page) < PAGE_EVENTS:
                    silent_seconds += await self._pause()
                if silent_seconds >= HEARTBEAT_SECONDS:
                    yield b": still here\n\n"
                    silent_seconds = 0.0
                page = await self._page(listening)
        except PopugError as error:
            yield b"event: problem\ndata: " + problems.encode(problems.problem_of(error)) + b"\n\n"
        finally:
            self._listeners -= 1

    def _check_room(self, limit: int) -> None:
        if self._listeners > limit:
            raise Unavailable("server_unavailable", "Too many listen already.", hint="Try again later.")

    async def _page(self, listening: Listening) -> list[dict[str, Any]]:
        work = lambda: self._resident.perform(listening.asked, listening.token).answer.events  # noqa: E731 - one line
        return await self._workers.run(LISTENING, work)

    async def _pause(self) -> float:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._ending.wait()
        except TimeoutError:
            pass
        return LOOK_SECONDS


def told(envelope: dict[str, Any]) -> bytes:
    """One event of the stream; JSON has no bare line break, so its data is one line."""
    kind = str(envelope.get("type", "")).translate({10: " ", 13: " "})
    data = json.dumps(envelope, separators=(",", ":"))
    return f"id: {envelope['sequence']}\nevent: {kind}\ndata: {data}\n\n".encode()
