"""Start and stop the server: lock the home, open sockets, serve until a signal, clean up."""

import asyncio
import gc
import logging
import os
import resource
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn

from popug_cli.app import LocalBackend
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.log import ACCESS_LOG, LOG, WarnOnce, log_error, log_failed_request
from popug_cli.kernel.progress import Progress
from popug_cli.platform.files import OWNER_ONLY_FILE
from popug_cli.server import routes, sockets, systemd
from popug_cli.server.access_log import AccessLog
from popug_cli.server.connection_limits import KEEP_ALIVE_TIMEOUT_SECONDS, LimitedConnection, TlsHandshake
from popug_cli.server.peers import ConnectionBudget
from popug_cli.server.request_limits import AsgiApp, RequestGuard, ServerIdentity
from popug_cli.server.request_meter import RequestMeter, open_metrics
from popug_cli.server.served import Served
from popug_cli.server.sockets import Listener
from popug_cli.server.thread_pools import THREADS, ThreadPools

GRACE_SECONDS = 10
SHORT_GRACE_SECONDS = 0.5
FOLLOW_POLL_SECONDS = 1.0
THREAD_SWITCH_SECONDS = 0.0005
MAX_CONNECTIONS = 1000
MIN_CONNECTIONS = 8
RESERVED_FILES = 64
GATEWAY_THREADS = 64
MAX_REMEMBERED_WARNINGS = 100
SIGNALS = (signal.SIGINT, signal.SIGTERM)

OpenForServer = Callable[[Progress], LocalBackend]
BackgroundWork = Callable[[OpenForServer], AbstractContextManager[None]]
Join = Callable[[ServedCompany], AbstractContextManager[object]]
"""Connects the company, if it is a service of a cluster, with the other services while it is served."""
ShowAddresses = Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Addresses to listen on in addition to the home's socket.

    `hosts` has the host names that requests may use; if empty, any.
    """

    socket: Path | None = None
    group: str | None = None
    host: str | None = None
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    hosts: frozenset[str] = frozenset()


@dataclass
class Shutdown:
    """The request to shut down, and the error that caused it, if any."""

    loop: asyncio.AbstractEventLoop
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    error: PopugError | None = None

    def request_because_of(self, error: PopugError) -> None:
        """Request a shutdown because of `error`; safe to call from any thread."""
        self.error = error
        self.loop.call_soon_threadsafe(self.requested.set)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, so that the process shuts down the servers of all sockets at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers; the process handles the signals."""
        yield


def no_background(open_backend: OpenForServer) -> AbstractContextManager[None]:
    """Return a context manager that runs nothing: the default `background`."""
    return nullcontext()


def serve(
    home: Home,
    options: ListenOptions,
    show_addresses: ShowAddresses,
    version: str,
    background: BackgroundWork = no_background,
    join: Join = nullcontext,
) -> None:
    """Serve a home until SIGINT or SIGTERM, and run `background` during that time, after entering `join`.

    `show_addresses` is called with the URLs as soon as the server accepts requests; problems are logged.
    Raise a ``PopugError`` if the home or a socket is not available, or if the database files are replaced.
    """
    _prepare_process()
    with ExitStack() as stack:
        company = ServedCompany(home, threads=THREADS, warn=LOG.warning)
        stack.callback(company.close)
        stack.enter_context(sockets.exclusive_lock(home))
        company.probe()  # a newer popug may have migrated the home before it was locked
        company.follow(LOG.warning)
        for listener in (listeners := listen(home, options)):
            stack.callback(listener.remove)
        stack.enter_context(join(company))
        stack.enter_context(background(lambda progress: company.open_backend(LOG.warning, progress=progress)))
        asyncio.run(_serve_until_shutdown(company, ThreadPools(), listeners, options, show_addresses, version, stack))


def serve_gateway(gateway: Served, options: ListenOptions, show_addresses: ShowAddresses, version: str) -> None:
    """Serve a gateway, which has no home, as ``serve`` does; close it at the end.

    Its threads only wait for services, so it has many.
    """
    _prepare_process()
    with ExitStack() as stack:
        stack.callback(gateway.close)
        for listener in (listeners := listen(None, options)):
            stack.callback(listener.remove)
        pools = ThreadPools(writers=GATEWAY_THREADS, readers=GATEWAY_THREADS)
        asyncio.run(_serve_until_shutdown(gateway, pools, listeners, options, show_addresses, version, stack))


def _prepare_process() -> None:
    gc.enable()
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)


def listen(home: Home | None, options: ListenOptions) -> list[Listener]:
    """Open all sockets, that of the home first if there is one.

    If one fails, remove the socket files that were created and raise its error.
    """
    with ExitStack() as stack:
        listeners: list[Listener] = []
        for listener in _open_listeners(home, options):
            stack.callback(listener.remove)
            listeners.append(listener)
        stack.pop_all()
        return listeners


def _open_listeners(home: Home | None, options: ListenOptions) -> Iterator[Listener]:
    if home is not None:
        yield sockets.listen_in_home(home)
    passed = systemd.passed_sockets()
    yield from passed
    if options.socket is not None and not passed:
        mode = sockets.GROUP_SOCKET_MODE if options.group else OWNER_ONLY_FILE
        yield sockets.listen_at(options.socket, mode, options.group)
    if options.host is not None:
        yield sockets.listen_on(options.host, options.port, secure=options.certificate is not None)


async def _serve_until_shutdown(
    company: Served,
    pools: ThreadPools,
    listeners: list[Listener],
    options: ListenOptions,
    show_addresses: ShowAddresses,
    version: str,
    stack: ExitStack,
) -> None:
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    for number in SIGNALS:
        loop.add_signal_handler(number, shutdown.requested.set)
    server_identity = ServerIdentity(version, company.home_id, company.time_zone, options.hosts)
    metrics = open_metrics(company, version)
    application = routes.build(company, pools, shutdown.requested, server_identity, log_failed_request, metrics)
    app: AsgiApp = _build_guard(application, company, pools, server_identity)
    if metrics is not None:
        app = RequestMeter(app, metrics, application.paths)
    if ACCESS_LOG.isEnabledFor(logging.INFO):
        app = AccessLog(app, application.paths)
    home_socket = listeners[0].socket.getsockname() if isinstance(company, ServedCompany) else ""
    budget = ConnectionBudget(connection_limit(len(listeners)), home_socket)
    servers = _build_servers(app, server_identity, listeners, options, budget)
    with background_catch_up(company, shutdown):
        tasks = [
            asyncio.create_task(server.serve([listener.socket for listener in group])) for server, group in servers
        ]
        gc.freeze()
        show_addresses([listener.url for listener in listeners])
        systemd.notify("READY=1")
        await shutdown.requested.wait()
        systemd.notify("STOPPING=1")
        company.stop_reconnecting()
        for listener in listeners:
            listener.remove()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    is_useful = not pools.pending_count or company.is_database_reachable()
    if not await pools.drain(GRACE_SECONDS if is_useful else 0):
        _exit_now(stack, shutdown.error)
    if shutdown.error is not None:
        raise shutdown.error


def _build_guard(
    application: AsgiApp, company: Served, pools: ThreadPools, server_identity: ServerIdentity
) -> RequestGuard:
    async def verify_signature(token: str | None) -> None:
        if not company.has_verified(token):
            await pools.run(None, lambda: company.verify(token))

    async def verify_token(token: str | None) -> None:
        await pools.run(None, lambda: company.authenticate(token))

    return RequestGuard(
        application,
        server_identity,
        verify_signature,
        verify_token,
        token_paths=routes.token_paths(company.runtime.service if isinstance(company, ServedCompany) else ""),
        large_body_paths=routes.large_body_paths(),
    )


@contextmanager
def background_catch_up(company: Served, shutdown: Shutdown) -> Iterator[None]:
    """Run the consumers every second in a thread; request a shutdown if a database file was replaced or truncated.

    At the end, wait for the thread, unless it waits for a database that cannot be reached: it holds nothing there.
    """
    stop = threading.Event()
    warn = WarnOnce(MAX_REMEMBERED_WARNINGS)

    def catch_up() -> None:
        is_complete = True
        while not stop.wait(FOLLOW_POLL_SECONDS if is_complete else 0):
            try:
                company.check()
            except PopugError as error:
                shutdown.request_because_of(error)
                return
            try:
                is_complete = company.follow(warn)
            except PopugError as error:
                is_complete = True
                warn(f"{error.message} {error.hint}")

    thread = threading.Thread(target=catch_up, name="popug-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SHORT_GRACE_SECONDS)
        if thread.is_alive() and company.is_database_reachable():
            thread.join(GRACE_SECONDS)


def connection_limit(listener_count: int) -> int:
    """Increase the limit of open files if possible; return the connection limit of each listening socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = listener_count * MAX_CONNECTIONS + RESERVED_FILES
    if soft < needed:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (soft - RESERVED_FILES) // listener_count))


def _exit_now(stack: ExitStack, error: PopugError | None) -> None:
    """Exit although threads are still working; their open transactions are rolled back at the next start."""
    stack.pop_all()
    if error is not None:
        log_error(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_status if error is not None else 0)


def _build_servers(
    app: AsgiApp,
    server_identity: ServerIdentity,
    listeners: list[Listener],
    options: ListenOptions,
    budget: ConnectionBudget,
) -> list[tuple[Server, list[Listener]]]:
    """Create one server for the plain sockets, and one for the TLS sockets if there are any."""
    plain = [listener for listener in listeners if not listener.url.startswith("https:")]
    secure = [listener for listener in listeners if listener.url.startswith("https:")]
    servers = [
        (
            Server(_uvicorn_config(app, server_identity, partial(LimitedConnection, budget=budget))),
            plain,
        )
    ]
    if secure:
        servers.append(
            (
                Server(
                    _uvicorn_config(
                        app,
                        server_identity,
                        partial(TlsHandshake, _tls_context(options), budget=budget),
                    )
                ),
                secure,
            )
        )
    return servers


def _tls_context(options: ListenOptions) -> ssl.SSLContext:
    assert options.certificate is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    return context


def _uvicorn_config(
    app: AsgiApp, server_identity: ServerIdentity, connection: Callable[..., asyncio.Protocol]
) -> uvicorn.Config:
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
        headers=server_identity.headers(),
    )
    config.load()
    return config
