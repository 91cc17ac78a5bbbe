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

from popug_cli.app import LocalBackend
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.platform.files import OWNER_ONLY_FILE
from popug_cli.server import routes, sockets, systemd
from popug_cli.server.connection_limits import KEEP_ALIVE_TIMEOUT_SECONDS, LimitedConnection, TlsHandshake
from popug_cli.server.request_limits import App, RequestGuard, ServerIdentity
from popug_cli.server.sockets import Listener
from popug_cli.server.thread_pools import THREADS, ThreadPools

GRACE_SECONDS = 10
FOLLOW_POLL_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
MAX_CONNECTIONS = 1000
MIN_CONNECTIONS = 8
SPARE_FILES = 64
REMEMBERED_WARNINGS = 100
SIGNALS = (signal.SIGINT, signal.SIGTERM)

OpenForServer = Callable[[Progress], LocalBackend]
BackgroundWork = Callable[[OpenForServer], AbstractContextManager[None]]


class ServerReporter(Protocol):
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
class ListenOptions:
    """Where to listen beside the home's own socket; ``hosts`` are the names it has there, none where any will do."""

    socket: Path | None = None
    group: str | None = None
    host: str | None = None
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    hosts: frozenset[str] = frozenset()


@dataclass
class Shutdown:
    """The order to end, and because of what, if nobody gave it."""

    loop: asyncio.AbstractEventLoop
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    fault: PopugError | None = None

    def request_because_of(self, fault: PopugError) -> None:
        """End, from any thread."""
        self.fault = fault
        self.loop.call_soon_threadsafe(self.requested.set)


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: one order ends every group of sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


def no_background(open_backend: OpenForServer) -> AbstractContextManager[None]:
    """Nothing else runs in the process."""
    return nullcontext()


def serve(
    home: Home,
    options: ListenOptions,
    reporter: ServerReporter,
    version: str,
    background: BackgroundWork = no_background,
) -> None:
    """Serve a home until SIGINT or SIGTERM; raises what keeps it from it. ``background`` runs as long."""
    gc.enable()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # what clients do wrong is told to them
    sys.setswitchinterval(SWITCH_SECONDS)
    with ExitStack() as stack:
        company = ServedCompany(home, threads=THREADS)
        stack.callback(company.close)
        stack.enter_context(sockets.exclusive_lock(home))
        company.probe()  # a newer popug may have migrated the home before it was held
        company.follow(reporter.warn)
        for listener in (listeners := listen(home, options)):
            stack.callback(listener.remove)
        stack.enter_context(background(lambda progress: company.open_backend(reporter.warn, progress=progress)))
        asyncio.run(_run(company, listeners, options, reporter, version, stack))


def listen(home: Home, options: ListenOptions) -> list[Listener]:
    """Every socket; none is left where one of them cannot be had."""
    with ExitStack() as stack:
        listeners: list[Listener] = []
        for listener in _listeners(home, options):
            stack.callback(listener.remove)
            listeners.append(listener)
        stack.pop_all()
        return listeners


def _listeners(home: Home, options: ListenOptions) -> Iterator[Listener]:
    yield sockets.listen_in_home(home)
    passed = systemd.passed_sockets()
    yield from passed
    if options.socket is not None and not passed:
        mode = sockets.GROUP_FILE if options.group else OWNER_ONLY_FILE
        yield sockets.listen_at(options.socket, mode, options.group)
    if options.host is not None:
        yield sockets.listen_on(options.host, options.port, secure=options.certificate is not None)


async def _run(
    company: ServedCompany,
    listeners: list[Listener],
    options: ListenOptions,
    reporter: ServerReporter,
    version: str,
    stack: ExitStack,
) -> None:
    loop = asyncio.get_running_loop()
    shutdown, pools = Shutdown(loop), ThreadPools()
    for number in SIGNALS:
        loop.add_signal_handler(number, shutdown.requested.set)
    identity = ServerIdentity(version, company.home_id, company.time_zone, options.hosts)
    application = routes.build(company, pools, shutdown.requested, identity, reporter.fault)

    async def verify_token(token: str | None) -> None:
        await pools.run(None, lambda: company.authenticate(token))

    guard = RequestGuard(cast("App", application), identity, verify_token, large_paths=routes.large_paths())
    servers = _servers(guard, identity, listeners, options)
    with background_catch_up(company, reporter, shutdown):
        tasks = [
            asyncio.create_task(server.serve([listener.socket for listener in group])) for server, group in servers
        ]
        gc.freeze()
        reporter.listening([listener.url for listener in listeners])
        systemd.notify("READY=1")
        await shutdown.requested.wait()
        systemd.notify("STOPPING=1")
        for listener in listeners:
            listener.remove()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    if not await pools.drain(GRACE_SECONDS):
        _exit_now(stack)
    if shutdown.fault is not None:
        raise shutdown.fault


@contextmanager
def background_catch_up(company: ServedCompany, reporter: ServerReporter, shutdown: Shutdown) -> Iterator[None]:
    """A thread that lets the consumers catch up now and then, and sees when the home is another's."""
    stop = threading.Event()
    warned: deque[str] = deque(maxlen=REMEMBERED_WARNINGS)

    def warn(sentence: str) -> None:
        if sentence not in warned:
            warned.append(sentence)
            reporter.warn(sentence)

    def catch_up() -> None:
        while not stop.wait(FOLLOW_POLL_SECONDS):
            try:
                company.check()
            except PopugError as fault:
                shutdown.request_because_of(fault)
                return
            try:
                company.follow(warn)
            except PopugError as fault:
                warn(f"{fault.message} {fault.hint}")

    thread = threading.Thread(target=catch_up, name="popug-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(GRACE_SECONDS)


def allowed_connections() -> int:
    """How many connections there may be, with TLS and without, for as many files as the system lets us open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MAX_CONNECTIONS + SPARE_FILES
    if soft < needed:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (soft - SPARE_FILES) // 2))


def _exit_now(stack: ExitStack) -> None:
    """End although something is still at work; what it has not committed is undone when the file is next opened."""
    stack.pop_all()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _servers(
    app: App, identity: ServerIdentity, listeners: list[Listener], options: ListenOptions
) -> list[tuple[Server, list[Listener]]]:
    """One server for the sockets without TLS, one for those with it."""
    plain = [listener for listener in listeners if not listener.url.startswith("https:")]
    secure = [listener for listener in listeners if listener.url.startswith("https:")]
    max_connections = allowed_connections()
    servers = [(Server(_config(app, identity, partial(LimitedConnection, max_connections=max_connections))), plain)]
    if secure:
        servers.append(
            (
                Server(
                    _config(app, identity, partial(TlsHandshake, _context(options), max_connections=max_connections))
                ),
                secure,
            )
        )
    return servers


def _context(options: ListenOptions) -> ssl.SSLContext:
    assert options.certificate is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    return context


def _config(app: App, identity: ServerIdentity, connection: Callable[..., asyncio.Protocol]) -> uvicorn.Config:
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
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        headers=identity.headers(),
    )
    config.load()
    return config
