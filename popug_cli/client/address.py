"""Addresses of servers: ``unix:///path``, ``http://host:port``, ``https://host:port``."""

import os

import msgspec

from popug_cli.kernel.errors import InvalidInput

MAX_LABEL_CHARACTERS = 63
DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True):
    """Where a server listens: on a socket file (``path``), else on a port of a host, with TLS or without."""

    host: str = "localhost"
    port: int = 0
    path: str = ""
    has_tls: bool = False

    @property
    def url(self) -> str:
        """The one spelling of it, which sessions are kept under."""
        return f"unix://{self.path}" if self.path else f"http{'s' if self.has_tls else ''}://{self.authority}"

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path or self.port == DEFAULT_PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def is_unencrypted_remote(self) -> bool:
        """Whether what is sent there can be read on its way."""
        at_home = self.path or self.host in {"localhost", "::1"} or self.host.startswith("127.")
        return not at_home and not self.has_tls

    @property
    def _scheme(self) -> str:
        return "https" if self.has_tls else "http"


def parse(url: str) -> Address:
    """The address that a URL names; raises ``invalid_server``."""
    scheme, _, location = url.partition(":")
    if scheme.lower() == "unix" and url.isprintable():
        return _socket_file(url, location)
    if scheme.lower() in DEFAULT_PORTS and url.isascii() and url.isprintable() and " " not in url:
        return _host(url)
    raise _refused(url, "is no address of a server")


def _socket_file(url: str, location: str) -> Address:
    from pathlib import PurePosixPath
    from urllib.parse import unquote_to_bytes

    path = os.fsdecode(unquote_to_bytes(location.removeprefix("//")))
    if not path.startswith("/") or "\0" in path:
        raise _refused(url, "names no socket by its whole path")
    return Address(path="/" + os.fspath(PurePosixPath(path)).lstrip("/"))


def _host(url: str) -> Address:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused(url, "is no address of a server") from error
    if not host or port == 0 or not _is_name(host):
        raise _refused(url, "names no host and port")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _refused(url, "holds more than a host and a port")
    return Address(host=host, port=port or DEFAULT_PORTS[parts.scheme], has_tls=parts.scheme == "https")


def _is_name(host: str) -> bool:
    """Whether every part of a name is as long as parts may be, which is asked only deep inside of looking it up."""
    return ":" in host or all(0 < len(part) <= MAX_LABEL_CHARACTERS for part in host.removesuffix(".").split("."))


def _refused(url: str, why: str) -> InvalidInput:
    return InvalidInput(
        "invalid_server",
        f"{url!r} {why}.",
        hint="Write it as unix:///path/to/popug.sock, http://localhost:8020 or https://popug.example.com.",
        details={"server": url},
    )
