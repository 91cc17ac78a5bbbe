"""`popug serve --gateway`: serve a cluster without a home or a database, by asking its services."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli import __version__
from popug_cli.cli.commands.operations import serve_module
from popug_cli.cli.context import CommandContext
from popug_cli.cli.output.log_output import log_to_stderr
from popug_cli.cluster.places import DEFAULT_FOLDER, Places, places_from
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.kernel.log import LOG
from popug_cli.kernel.settings import CLUSTER_HOMES, Settings, load_settings

if TYPE_CHECKING:
    from popug_cli.server.run import ListenOptions


def require_only_gateway(*, module: str | None, brokers: str | None, scheduler: bool) -> None:
    """Raise ``usage`` for an option of a service: a gateway has no module, does not use Kafka and closes no day."""
    given = {"--module": module is not None, "--brokers": brokers is not None, "--scheduler": scheduler}
    for option, is_given in given.items():
        if is_given:
            hint = "Give it to `popug serve --module NAME`."
            raise InvalidInput("usage", f"{option} is for a service, not for the gateway.", hint=hint)


def serve_gateway(context: CommandContext, options: "ListenOptions", homes: Path | None) -> None:
    """Serve the gateway until SIGINT or SIGTERM.

    Raise ``usage`` without an address to listen on or for a setting that is not valid, or ``service_unavailable``.
    """
    from popug_cli.cluster.gateway.gateway import Gateway
    from popug_cli.cluster.service_clients import addresses_from
    from popug_cli.server import run, systemd

    if options.host is None and options.socket is None and not systemd.passes_sockets():
        hint = "Give --listen HOST:PORT, or --socket PATH."
        raise InvalidInput("usage", "A gateway has no home, so it needs an address to listen on.", hint=hint)
    settings, places = _settings(context, homes)
    addresses = addresses_from(settings, places)
    if not places.homes.exists():
        _require_named(name for name, address in addresses.items() if address.path == str(places.home_of(name).socket))
    with log_to_stderr(context, settings):
        for service, address in addresses.items():
            if address.is_unencrypted_remote:
                LOG.warning("Tokens are sent to %s at %s without encryption.", service, address.url)
        run.serve_gateway(Gateway(addresses), options, lambda urls: _show_addresses(context, urls), __version__)


def _require_named(missing: Iterable[str]) -> None:
    """Raise ``usage`` if a service has no address, and no home of a directory that the settings name."""
    if named := ", ".join(missing):
        raise InvalidInput(
            "usage",
            f"The gateway needs the address of each service; that of {named} is missing.",
            hint="Set POPUG_SERVICES=tasks=https://tasks.example.com,billing=…, or give --homes DIR.",
        )


def _settings(context: CommandContext, homes: Path | None) -> tuple[Settings, Places]:
    """Return the settings of the environment, and of a home if there is one; raise ``invalid_setting``.

    Also return the places of the services: the option, else the setting, else a folder of the home.
    """
    serve_module.choose(CLUSTER_HOMES, str(homes.absolute()) if homes else None)
    try:
        root = context.home.root
    except InvalidInput:  # this account has no home directory
        root = Path(os.devnull)
    settings = load_settings(Home(root).config)
    return settings, places_from(settings, root / DEFAULT_FOLDER)


def _show_addresses(context: CommandContext, urls: list[str]) -> None:
    """Print and log the addresses on which the gateway listens."""
    document = {"event": "listening", "gateway": True, "urls": urls}
    sentence = f"Serving the cluster at {' and '.join(urls)}. Ctrl-C ends it."
    LOG.info(sentence, extra={"report": True, **document})
    if context.as_json:
        context.printer.document({**document, "process": os.getpid()})
    else:
        context.printer.line(sentence)
    context.printer.out.flush()
