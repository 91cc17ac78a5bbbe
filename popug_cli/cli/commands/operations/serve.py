"""Commands for the server, and for its installation in systemd."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from popug_cli import __version__
from popug_cli.cli.commands.operations.serve_gateway import require_only_gateway, serve_gateway
from popug_cli.cli.context import CommandContext, command, group_command
from popug_cli.cli.install import database_variable, server_unit
from popug_cli.cli.output.blocks import Hint
from popug_cli.cli.output.log_output import log_to_stderr
from popug_cli.kernel.errors import InvalidInput, NotAuthenticated, Unavailable
from popug_cli.kernel.log import LOG
from popug_cli.kernel.settings import DATABASE_URL, SETTINGS
from popug_cli.kernel.text import has_password
from popug_cli.messages.scheduler import RunDue
from popug_cli.platform.files import exposure_of

if TYPE_CHECKING:
    from popug_cli.server.run import BackgroundWork, Join, ListenOptions, OpenForServer

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAX_PORT = 65_535

SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", metavar="PATH", help="Also listen on a socket outside the home.", dir_okay=False),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="NAME", help="The system group that may use that socket.")
]

HomesOption = Annotated[
    Path | None,
    typer.Option("--homes", metavar="DIR", help="The directory with the home of each service.", file_okay=False),
]
BrokersOption = Annotated[
    str | None, typer.Option("--brokers", metavar="HOST:PORT,…", help="The Kafka brokers of the cluster.")
]

group = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(group, name="serve")


@group_command(group)
def serve(
    context: CommandContext,
    socket: SocketOption = None,
    group: GroupOption = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Also listen on a network address.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate for that address (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's private key (PEM).")
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front does TLS, so any address is allowed.")
    ] = False,
    scheduler: Annotated[
        bool, typer.Option("--scheduler", help="Also run the scheduler: close each day, send mail, retry events.")
    ] = False,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="The company's PostgreSQL database.")
    ] = None,
    module: Annotated[
        str | None, typer.Option("--module", metavar="NAME", help="Serve one service of a cluster.")
    ] = None,
    homes: HomesOption = None,
    brokers: BrokersOption = None,
    gateway: Annotated[bool, typer.Option("--gateway", help="Serve a cluster, by asking its services.")] = False,
) -> None:
    """Serve this company to many users and programs, in the foreground until SIGINT or SIGTERM."""
    if database is not None:
        _use_database(context, database)
    _prepare_process()
    if gateway:
        require_only_gateway(module=module, brokers=brokers, scheduler=scheduler)
    else:
        join = _join_cluster(context, module, homes, brokers, scheduler=scheduler)
    options = _listen_options(
        context, socket, group, listen, (tls_cert, tls_key), behind_proxy=behind_proxy, is_gateway=gateway
    )
    if gateway:
        serve_gateway(context, options, homes)
        return
    from popug_cli.server import run

    background = _background_work(context, scheduler=scheduler)
    with log_to_stderr(context):
        run.serve(context.home, options, partial(_show_addresses, context), __version__, background, join)


@command(group, "install")
def install(
    context: CommandContext,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a service and a socket for systemd.")] = False,
    socket: SocketOption = None,
    group: GroupOption = None,
) -> None:
    """Print a sandboxed service for systemd that serves this company, and its socket."""
    if not systemd:
        raise InvalidInput(
            "usage", "Give --systemd; nothing else is supported yet.", hint="Run `popug serve install --systemd`."
        )
    plan = server_unit.plan(context.home, socket or server_unit.DEFAULT_SOCKET, group or server_unit.DEFAULT_GROUP)
    context.screen.show(
        plan.answer(), lambda: [*plan.texts(), *(Hint(hint) for hint in (*plan.hints(), *database_variable.hints()))]
    )


def _listen_options(
    context: CommandContext,
    socket: Path | None,
    group: str | None,
    listen: str | None,
    tls_files: tuple[Path | None, Path | None],
    *,
    behind_proxy: bool,
    is_gateway: bool,
) -> "ListenOptions":
    """Return the addresses to listen on; raise ``usage`` or ``insecure_file`` for options that cannot be used."""
    from popug_cli.server.run import ListenOptions

    address = _parse_address(listen) if listen is not None else None
    tls = _check_tls_files(*tls_files, address)
    if tls:
        _check_private(tls[1])
    path, group = (socket, group) if is_gateway else _socket_outside_home(context, socket, group)
    host, port = address or (None, 0)
    hosts = _allowed_hosts(address, is_encrypted=tls is not None or behind_proxy)
    certificate, key = tls or (None, None)
    return ListenOptions(path, group, host, port, certificate, key, hosts)


def _use_database(context: CommandContext, url: str) -> None:
    """Let this process use the database at ``url``, whatever the settings say; raise ``usage`` for an empty one."""
    if not url.strip():
        hint = "Write it as postgresql://USER@HOST:PORT/DATABASE."
        raise InvalidInput("usage", "--database needs the URL of a PostgreSQL database.", hint=hint)
    if has_password(url) and not context.as_json:
        context.printer.warn(
            "Other users of this machine can see the password of --database in the list of processes. Set"
            " POPUG_DATABASE instead, or write the password to ~/.pgpass."
        )
    os.environ[SETTINGS[DATABASE_URL].variable] = url


def _join_cluster(
    context: CommandContext, module: str | None, homes: Path | None, brokers: str | None, *, scheduler: bool
) -> "Join":
    """Return what connects the service of a cluster with the others, and make its home that of ``context``."""
    if module is None:
        if homes is not None or brokers is not None:
            raise InvalidInput("usage", "--homes and --brokers belong to --module.", hint="Add --module NAME.")
        return nullcontext
    from popug_cli.cli.commands.operations import serve_module

    if scheduler and module != "billing":
        raise InvalidInput(
            "usage", "In a cluster, the scheduler runs in billing.", hint="Give --scheduler with --module billing only."
        )
    context.home, places = serve_module.find_service(context, module, homes, brokers)
    return partial(serve_module.join, module=module, places=places)


def _show_addresses(context: CommandContext, urls: list[str]) -> None:
    """Print and log the addresses on which the server listens."""
    document = {"event": "listening", "home": str(context.home.root), "urls": urls}
    sentence = f"Serving {context.home.root} at {' and '.join(urls)}. Ctrl-C ends it."
    LOG.info(sentence, extra={"report": True, **document})
    if context.as_json:
        context.printer.document({**document, "process": os.getpid()})
    else:
        context.printer.line(sentence)
    context.printer.out.flush()


def _prepare_process() -> None:
    """Exit on a signal from now on; raise ``server_unavailable`` if a package of the server is not installed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_now)
    try:
        from popug_cli.server import run  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            "server_unavailable",
            f"popug serve needs a package that is not installed ({error.name}).",
            hint="Install popug with its extra: pip install 'popug[server]'.",
        ) from error


def _exit_now(number: int, frame: object) -> None:
    """Exit at once on a signal that arrives before ``server/run.py`` handles signals; nothing is served yet."""
    os._exit(0)


def _background_work(context: CommandContext, *, scheduler: bool) -> "BackgroundWork":
    """Return a context manager that runs hooks and, if ``scheduler``, the scheduler in the server's process."""
    from popug_cli.daemon import hook_loop

    run_hooks = partial(hook_loop.run_in_background, folder=context.home.hooks)
    if not scheduler:
        return run_hooks
    from popug_cli.cli.commands.operations.scheduler import DEFAULT_TIME, SchedulerOutput, parse_minute
    from popug_cli.daemon.scheduler import run_in_background

    run_scheduler = partial(
        run_in_background,
        message=RunDue(at_minute=parse_minute(DEFAULT_TIME)),
        show=SchedulerOutput(context).show,
    )

    @contextmanager
    def both(open_backend: "OpenForServer") -> Iterator[None]:
        with run_scheduler(open_backend), run_hooks(open_backend):
            yield

    return both


def _socket_outside_home(
    context: CommandContext, path: Path | None, group: str | None
) -> tuple[Path | None, str | None]:
    """Return the socket outside the home and its group, or (None, None) for the home's own socket.

    Raise ``usage`` for another path in the home, and for a group without a path.
    """
    if path is None:
        if group is not None:
            raise InvalidInput("usage", "--group needs --socket PATH.", hint="Name a path outside the home.")
        return None, None
    path = Path(os.path.abspath(path.expanduser()))
    if path == context.home.socket and group is None:
        return None, None
    if path.is_relative_to(context.home.root) or path.resolve().is_relative_to(context.home.root.resolve()):
        raise InvalidInput(
            "usage",
            f"{path} is in the home, which only its owner can access.",
            hint="Name a path outside it, such as /run/popug/popug.sock.",
        )
    return path, group


def _parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``127.0.0.1:8020``, ``[::1]:8020`` or ``localhost:8020``; raise ``usage``."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or "/" in host or not (port.isascii() and port.isdecimal()) or int(port) > MAX_PORT:
        raise InvalidInput("usage", f"{text!r} is not a valid address with a port.", hint="Write it as 127.0.0.1:8020.")
    return host, int(port)


def _check_tls_files(
    certificate: Path | None, key: Path | None, address: tuple[str, int] | None
) -> tuple[Path, Path] | None:
    """Return certificate and key, or None if neither is given.

    Raise ``usage`` if one of them or the address is missing, or if TLS cannot use them.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None or address is None:
        raise InvalidInput("usage", "--tls-cert, --tls-key and --listen belong together.", hint="Give all three.")
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror or getattr(error, "reason", None) or error if isinstance(error, OSError) else error
        raise InvalidInput(
            "usage",
            f"{certificate} and {key} cannot be used for TLS: {reason}.",
            hint="Give a certificate and its private key without a password, in PEM.",
        ) from error
    return certificate, key


def _check_private(key: Path) -> None:
    """Raise ``insecure_file`` if another account owns the TLS key, or others can access it."""
    if exposure := exposure_of(key.stat(), os.geteuid()):
        raise NotAuthenticated(
            "insecure_file",
            f"{exposure} the TLS key {key}.",
            hint=f"Run `chmod 600 {key}` as the account that serves, with a new key if it may have been read.",
            details={"path": str(key)},
        )


def _allowed_hosts(address: tuple[str, int] | None, *, is_encrypted: bool) -> frozenset[str]:
    """Return the host names that requests may use; an empty set allows all.

    Raise ``usage`` for an address to which tokens would be sent unencrypted.
    """
    if address is None or is_encrypted:
        return frozenset()
    host = address[0]
    if _is_loopback(host):
        return LOOPBACK | {(f"[{host}]" if ":" in host else host).lower()}
    raise InvalidInput(
        "usage",
        f"{host} can be reached from other machines, so others on the network could read the tokens.",
        hint="Give --tls-cert and --tls-key, or --behind-proxy if a proxy does TLS, or listen on 127.0.0.1.",
    )


def _is_loopback(host: str) -> bool:
    import ipaddress
    import socket as network

    try:
        addresses = network.getaddrinfo(host, None, type=network.SOCK_STREAM)
        return all(ipaddress.ip_address(address[4][0]).is_loopback for address in addresses)
    except (OSError, ValueError):
        return False
