"""Domain names in mail: their ASCII form (IDNA, RFC 5890), and the name in EHLO (pure functions)."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

LOOPBACK = IPv4Address("127.0.0.1")
MAX_DOMAIN_CHARACTERS = 253
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def ascii_domain(domain: str) -> str:
    """Return the domain in ASCII, as it is sent. Raise ``ValueError`` if it has no such form."""
    if domain.isascii():
        return domain
    import idna

    return idna.encode(domain, uts46=True).decode("ascii")


def ascii_address(address: str) -> str:
    """Return a bare address with its domain in ASCII. Raise ``ValueError`` if it has no such form.

    A local part that is not ASCII needs SMTPUTF8 (RFC 6531), which not every server has.
    """
    if address.isascii():
        return address
    local_part, at, domain = address.rpartition("@")
    if not local_part.isascii():
        raise ValueError(f"{address!r} is not ASCII before the @, so not every server accepts it")
    return f"{local_part}{at}{ascii_domain(domain)}"


def hello_name(configured: str, host_name: str, local_address: str) -> str:
    """Return the name in EHLO: the configured one, else a host name with a dot, else an address literal.

    Raise ``ValueError`` if the configured name is none of these (RFC 5321, 4.1.1.1 and 4.1.3).
    """
    if configured:
        return _literal_in_brackets(configured) or _full_name(configured)
    try:
        return _full_name(host_name)
    except ValueError:
        return _address_literal(local_address)


def _full_name(name: str) -> str:
    domain = ascii_domain(name)
    if len(domain) > MAX_DOMAIN_CHARACTERS or not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{name!r} is not a valid host name")
    if "." not in domain or domain.rpartition(".")[2].isdecimal():
        raise ValueError(f"{name!r} is not a full host name")
    return domain


def _literal_in_brackets(name: str) -> str | None:
    """Return the address literal if the name is written in brackets, else None."""
    if not (name.startswith("[") and name.endswith("]")):
        return None
    return _literal(ip_address(name[1:-1].removeprefix("IPv6:")))


def _address_literal(address: str) -> str:
    """Return the literal of a socket's address, of loopback if it has none; a scope is not sent."""
    try:
        return _literal(ip_address(address.partition("%")[0]))
    except ValueError:
        return _literal(LOOPBACK)


def _literal(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"[IPv6:{address}]"
    return f"[{getattr(address, 'ipv4_mapped', None) or address}]"
