"""Server addresses: ``unix:///path``, ``http://host:port``, ``https://host:port``."""

import os

import msgspec

from popug_cli.kernel.errors import InvalidInput

MAX_LABEL_CHARACTERS = 63
DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True):
    """Address of a server: a Unix socket (`path`), else a host and port, with or without TLS.

    `trusted_user_ids` are the accounts that may listen on the socket; if it is empty, any account may.
    """

    host: str = "localhost"
    port: int = 0
    path: str = ""
    has_tls: bool = False
    trusted_user_ids: frozenset[int] = frozenset()

    @property
    def url(self) -> str:
        """Return the canonical URL, under which sessions are stored."""
        return f"unix://{self.path}" if self.path else f"http{'s' if self.has_tls else ''}://{self.authority}"

    @property
    def authority(self) -> str:
        """Return the host, with the port unless it is the default one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path or self.port == DEFAULT_PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def is_unencrypted_remote(self) -> bool:
        """Return whether requests cross a network without encryption."""
        is_local = self.path or self.host in {"localhost", "::1"} or self.host.startswith("127.")
        return not is_local and not self.has_tls

    @property
    def _scheme(self) -> str:
        return "https" if self.has_tls else "http"


def parse(url: str) -> Address:
    """Parse a URL; raise ``invalid_server``."""
    scheme, _, socket_path = url.partition(":")
    if scheme.lower() == "unix" and url.isprintable():
        return _parse_socket_path(url, socket_path)
    if scheme.lower() in DEFAULT_PORTS and url.isascii() and url.isprintable() and " " not in url:
        return _parse_host(url)
    raise _invalid_server(url, "is not a valid server address")


def _parse_socket_path(url: str, socket_path: str) -> Address:
    from pathlib import PurePosixPath
    from urllib.parse import unquote_to_bytes

    path = os.fsdecode(unquote_to_bytes(socket_path.removeprefix("//")))
    if not path.startswith("/") or "\0" in path:
        raise _invalid_server(url, "does not contain the absolute path of a socket")
    return Address(path="/" + os.fspath(PurePosixPath(path)).lstrip("/"))


def _parse_host(url: str) -> Address:
    from urllib.parse import urlsplit

    try:
        split_url = urlsplit(url)
        host, port = split_url.hostname, split_url.port
    except ValueError as error:
        raise _invalid_server(url, "is not a valid server address") from error
    if not host or port == 0 or not _has_valid_labels(host):
        raise _invalid_server(url, "does not contain a valid host and port")
    if split_url.username is not None or split_url.path not in {"", "/"} or split_url.query or split_url.fragment:
        raise _invalid_server(url, "contains more than a host and a port")
    return Address(host=host, port=port or DEFAULT_PORTS[split_url.scheme], has_tls=split_url.scheme == "https")


def _has_valid_labels(host: str) -> bool:
    """Return whether the labels of a host name have valid lengths. The resolver raises ``UnicodeError`` for others."""
    return ":" in host or all(0 < len(label) <= MAX_LABEL_CHARACTERS for label in host.removesuffix(".").split("."))


def _invalid_server(url: str, reason: str) -> InvalidInput:
    return InvalidInput(
        "invalid_server",
        f"{url!r} {reason}.",
        hint="Write it as unix:///path/to/popug.sock, http://localhost:8020 or https://popug.example.com.",
        details={"server": url},
    )
