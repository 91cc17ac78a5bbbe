"""Commands: the server."""

import ipaddress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from popug_cli.cli.face import Face, group_command
from popug_cli.kernel.errors import InvalidInput, Unavailable

PANEL = "Company"


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help=serve.__doc__)
    group_command(group)(serve)
    program.add_typer(group, name="serve", rich_help_panel=PANEL)


def serve(
    face: Face,
    socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="Listen on a socket outside the home as well.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="Let a group of the system use that socket.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Listen on an address of the network as well.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="Its certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front does TLS, so any address will do.")
    ] = False,
) -> None:
    """Serve this company to other programs and people, in the foreground until SIGINT or SIGTERM."""
    try:
        from popug_cli.server import running
    except ImportError as error:
        raise Unavailable(
            "server_unavailable",
            f"popug serve needs a package that is not installed ({error.name}).",
            hint="Install popug with its extra: pip install 'popug[server]'.",
        ) from error
    host, port = _address(listen) if listen is not None else (None, 0)
    places = running.Places(socket, group, host, port, tls_cert, tls_key)
    running.serve(face.home, places, Report(face), version("popug"))


@dataclass
class Report:
    """Tells what the server does, in words or JSON."""

    face: Face

    def listening(self, urls: list[str]) -> None:
        """It answers from now on."""
        if self.face.as_json:
            self._document({"event": "listening", "home": str(self.face.home.root), "urls": urls})
        else:
            self.face.printer.line(f"Serving {self.face.home.root} at {', '.join(urls)}. Ctrl-C ends it.")
            self.face.printer.out.flush()

    def warn(self, sentence: str) -> None:
        """Something went wrong beside any answer."""
        self.face.printer.warn(sentence)

    def fault(self, error: Exception) -> None:
        """A fault of the program's own."""
        from traceback import format_exception

        self.face.printer.trace("".join(format_exception(error)))

    def _document(self, document: dict[str, Any]) -> None:
        self.face.printer.document(document)
        self.face.printer.out.flush()


def _address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8020``, ``[::1]:8020`` or ``localhost:8020``; raises ``usage``."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise InvalidInput("usage", f"{text!r} is no address.", hint="Write it as 127.0.0.1:8020.")
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
