"""The life of a server: it takes the home, listens, serves until it is told to end, and leaves nothing behind."""

import asyncio
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import uvicorn

from popug_cli.app.resident import Resident
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import OWNER_ONLY_FILE, Home
from popug_cli.server import sockets, web
from popug_cli.server.gate import App, Gate, Identity
from popug_cli.server.protocol import KEEP_ALIVE_SECONDS, MAX_HEADER_BYTES
from popug_cli.server.protocol import Protocol as Connection
from popug_cli.server.sockets import Listener
from popug_cli.server.work import THREADS, Workers

GRACE_SECONDS = 10
WATCH_SECONDS = 1.0
SWITCH_SECONDS = 0.001


class Tell(Protocol):
    """Hears of what the server does."""

    def listening(self, urls: list[str]) -> None:
        """It answers from now on."""
        ...

    def warn(self, sentence: str) -> None:
        """Something went wrong beside any answer."""
        ...

    def fault(self, error: Exception) -> None:
        """A fault of the program's own."""
        ...


@dataclass(frozen=True, slots=True)
class Places:
    """Where to listen beside the home's own socket."""

    socket: Path | None = None
    group: str | None = None
    host: str | None = None
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    hosts: frozenset[str] = frozenset()


@dataclass
class _Ending:
    """Whether the server is to end, and because of what."""

    order: asyncio.Event = field(default_factory=asyncio.Event)
    fault: PopugError | None = None


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one order ends every group of sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(home: Home, places: Places, tell: Tell, version: str) -> None:
    """Serve a home until SIGINT or SIGTERM; raises what keeps it from it."""
    gc.enable()
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        resident = Resident(home, threads=THREADS)
        stack.callback(resident.close)
        stack.enter_context(sockets.holding(home))
        listeners = _listen(home, places)
        for listener in listeners:
            stack.callback(listener.remove)
        asyncio.run(_run(resident, listeners, places, tell, version))


def _listen(home: Home, places: Places) -> list[Listener]:
    passed = sockets.passed_on()
    found = [sockets.listen_in_home(home), *passed]
    if places.socket is not None and not passed:
        mode = sockets.GROUP_FILE if places.group else OWNER_ONLY_FILE
        found.append(sockets.listen_at(places.socket, mode, places.group))
    if places.host is not None:
        found.append(sockets.listen_on(places.host, places.port, secure=places.certificate is not None))
    return found


async def _run(resident: Resident, listeners: list[Listener], places: Places, tell: Tell, version: str) -> None:
    ending = _Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.order.set)
    workers = Workers()
    identity = Identity(version, resident.home_id, resident.time_zone, places.hosts)
    app = Gate(cast("App", web.build(resident, workers, tell.fault)), identity)
    servers = _servers(app, identity, listeners, places)
    tasks = [asyncio.create_task(server.serve([each.socket for each in group])) for server, group in servers]
    tell.listening([each.url for each in listeners])
    await ending.order.wait()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    if ending.fault is not None:
        raise ending.fault


def _servers(
    app: Any, identity: Identity, listeners: list[Listener], places: Places
) -> list[tuple[_Server, list[Listener]]]:
    """One server for the sockets without TLS, one for those with it."""
    plain = [each for each in listeners if not each.url.startswith("https:")]
    secure = [each for each in listeners if each.url.startswith("https:")]
    made = [(_Server(_config(app, identity)), plain)]
    if secure:
        options = {"ssl_certfile": places.certificate, "ssl_keyfile": places.key}
        made.append((_Server(_config(app, identity, **options)), secure))
    return made


def _config(app: Any, identity: Identity, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        headers=[],
        **options,
    )
