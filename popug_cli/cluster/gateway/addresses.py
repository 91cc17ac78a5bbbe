"""The addresses of a cluster's services: those that the settings name, else the sockets in their homes."""

import os
from collections.abc import Mapping

from popug_cli.client.address import Address, parse
from popug_cli.cluster.places import Places
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.settings import SERVICE_ADDRESSES, Settings
from popug_cli.messages.services import SERVICES
from popug_cli.platform.accounts import SUPERUSER

EXAMPLE = "tasks=https://tasks.example.com,billing=https://billing.example.com"


def service_addresses(settings: Settings, places: Places | None) -> dict[str, Address]:
    """Return the address of each service; raise ``usage`` or ``invalid_server`` for a setting that is not valid.

    Without ``places``, the services have no homes on this machine.
    """
    named = parse_addresses(settings.text(SERVICE_ADDRESSES))
    if places is None:
        if missing := [service for service in SERVICES if service not in named]:
            raise _invalid(
                f"The gateway needs the address of each service, and those of {', '.join(missing)} are missing."
            )
        return {service: named[service] for service in SERVICES}
    return {service: named.get(service) or _socket_of(service, places) for service in SERVICES}


def parse_addresses(text: str) -> Mapping[str, Address]:
    """Return the addresses that a text names, by service; raise ``usage`` or ``invalid_server``."""
    addresses: dict[str, Address] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        service, equals, url = (part.strip() for part in item.partition("="))
        if not equals or service not in SERVICES:
            raise _invalid(f"{item!r} does not name one of the services {', '.join(SERVICES)} and its address.")
        if service in addresses:
            raise _invalid(f"The service {service} is named twice.")
        addresses[service] = parse(url)
    return addresses


def _socket_of(service: str, places: Places) -> Address:
    """Return the socket in the home of a service. Only its owner may listen there, or the superuser."""
    home = places.home_of(service)
    try:
        owner = home.root.stat().st_uid
    except OSError:
        owner = os.geteuid()
    return Address(path=os.fspath(home.socket), trusted_user_ids=frozenset({SUPERUSER, os.geteuid(), owner}))


def _invalid(sentence: str) -> InvalidInput:
    return InvalidInput("usage", sentence, hint=f"Write POPUG_SERVICES as {EXAMPLE}, or give --homes DIR.")
