"""The life of a server: it takes the home, listens, serves until it is told to end, and leaves nothing behind."""

import asyncio
import gc
import logging
import os
import resource
import signal
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import uvicorn

from popug_cli.app import Local
from popug_cli.app.resident import Resident
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import OWNER_ONLY_FILE, Home
from popug_cli.kernel.progress import Progress
from popug_cli.server import sockets, systemd, web
from popug_cli.server.gate import App, Gate, Identity
from popug_cli.server.protocol import KEEP_ALIVE_SECONDS, Door
from popug_cli.server.protocol import Protocol as Connection
from popug_cli.server.sockets import Listener
from popug_cli.server.work import THREADS, Workers

GRACE_SECONDS = 10
FOLLOW_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
MAX_CONNECTIONS = 1000
MIN_CONNECTIONS = 8
SPARE_FILES = 64
SENTENCES = 100
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Open = Callable[[Progress], Local]
Beside = Callable[[Open], AbstractContextManager[None]]


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
    """Where to listen beside the home's own socket; ``hosts`` are the names it has there, none where any will do."""

    socket: Path | None = None
    group: str | None = None
    host: str | None = None
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    hosts: frozenset[str] = frozenset()


@dataclass
class Ending:
    """The order to end, and because of what, if nobody gave it."""

    loop: asyncio.AbstractEventLoop
    order: asyncio.Event = field(default_factory=asyncio.Event)
    fault: PopugError | None = None

    def because_of(self, fault: PopugError) -> None:
        """End, from any thread."""
        self.fault = fault
        self.loop.call_soon_threadsafe(self.order.set)


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: one order ends every group of sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


def nothing_beside(open_place: Open) -> AbstractContextManager[None]:
    """Nothing else runs in the process."""
    return nullcontext()


def serve(home: Home, places: Places, tell: Tell, version: str, beside: Beside = nothing_beside) -> None:
    """Serve a home until SIGINT or SIGTERM; raises what keeps it from it. ``beside`` runs as long."""
    gc.enable()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # what clients do wrong is told to them
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        resident = Resident(home, threads=THREADS)
        stack.callback(resident.close)
        stack.enter_context(sockets.holding(home))
        resident.probe()  # a newer popug may have migrated the home before it was held
        resident.follow(tell.warn)
        for listener in (listeners := listen(home, places)):
            stack.callback(listener.remove)
        stack.enter_context(beside(lambda progress: resident.place(tell.warn, progress=progress)))
        asyncio.run(_run(resident, listeners, places, tell, version, stack))


def listen(home: Home, places: Places) -> list[Listener]:
    """Every socket; none is left where one of them cannot be had."""
    with ExitStack() as stack:
        found: list[Listener] = []
        for listener in _listeners(home, places):
            stack.callback(listener.remove)
            found.append(listener)
        stack.pop_all()
        return found


def _listeners(home: Home, places: Places) -> Iterator[Listener]:
    yield sockets.listen_in_home(home)
    passed = systemd.passed_sockets()
    yield from passed
    if places.socket is not None and not passed:
        mode = sockets.GROUP_FILE if places.group else OWNER_ONLY_FILE
        yield sockets.listen_at(places.socket, mode, places.group)
    if places.host is not None:
        yield sockets.listen_on(places.host, places.port, secure=places.certificate is not None)


async def _run(
    resident: Resident, listeners: list[Listener], places: Places, tell: Tell, version: str, stack: ExitStack
) -> None:
    loop = asyncio.get_running_loop()
    ending, workers = Ending(loop), Workers()
    for number in SIGNALS:
        loop.add_signal_handler(number, ending.order.set)
    identity = Identity(version, resident.home_id, resident.time_zone, places.hosts)
    application = web.build(resident, workers, ending.order, identity, tell.fault)

    async def prove(token: str | None) -> None:
        await workers.run(None, lambda: resident.identify(token))

    gate = Gate(cast("App", application), identity, prove, large=web.large_paths())
    servers = _servers(gate, identity, listeners, places)
    with following(resident, tell, ending):
        tasks = [asyncio.create_task(server.serve([each.socket for each in group])) for server, group in servers]
        gc.freeze()
        tell.listening([each.url for each in listeners])
        systemd.notify("READY=1")
        await ending.order.wait()
        systemd.notify("STOPPING=1")
        for listener in listeners:
            listener.remove()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    if not await workers.drain(GRACE_SECONDS):
        _leave(stack)
    if ending.fault is not None:
        raise ending.fault


@contextmanager
def following(resident: Resident, tell: Tell, ending: Ending) -> Iterator[None]:
    """A thread that lets the consumers catch up now and then, and sees when the home is another's."""
    over = threading.Event()
    told: deque[str] = deque(maxlen=SENTENCES)

    def warn(sentence: str) -> None:
        if sentence not in told:
            told.append(sentence)
            tell.warn(sentence)

    def follow() -> None:
        while not over.wait(FOLLOW_SECONDS):
            try:
                resident.check()
            except PopugError as fault:
                ending.because_of(fault)
                return
            try:
                resident.follow(warn)
            except PopugError as fault:
                warn(f"{fault.message} {fault.hint}")

    thread = threading.Thread(target=follow, name="popug-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(GRACE_SECONDS)


def allowed_connections() -> int:
    """How many connections there may be, with TLS and without, for as many files as the system lets us open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + SPARE_FILES
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (soft - SPARE_FILES) // 2))


def _leave(stack: ExitStack) -> None:
    """End although something is still at work; what it has not committed is undone when the file is next opened."""
    stack.pop_all()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _servers(
    app: App, identity: Identity, listeners: list[Listener], places: Places
) -> list[tuple[Server, list[Listener]]]:
    """One server for the sockets without TLS, one for those with it."""
    plain = [each for each in listeners if not each.url.startswith("https:")]
    secure = [each for each in listeners if each.url.startswith("https:")]
    most = allowed_connections()
    made = [(Server(_config(app, identity, partial(Connection, most=most))), plain)]
    if secure:
        made.append((Server(_config(app, identity, partial(Door, _context(places), most=most))), secure))
    return made


def _context(places: Places) -> ssl.SSLContext:
    assert places.certificate is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(places.certificate, places.key)
    return context


def _config(app: App, identity: Identity, connection: Callable[..., asyncio.Protocol]) -> uvicorn.Config:
    config = uvicorn.Config(
        cast("Any", app),
        http=cast("Any", connection),
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
        headers=identity.headers(),
    )
    config.load()
    return config
