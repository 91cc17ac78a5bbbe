"""uvicorn's unexported classes have the members that our protocol uses; a new uvicorn that differs fails here first."""

import asyncio
import inspect
import re
from importlib.metadata import requires, version

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from popug_cli.server.connection_limits import ChunkLimit, LimitedConnection, TlsHandshake

OPTION = re.compile(r"``((?:h11|limit|timeout|ssl)_\w+)``")
OF_ASYNCIO = {"ssl_handshake_timeout"}
MEMBERS = vars(LimitedConnection).items()
OVERRIDDEN = [name for name, member in MEMBERS if callable(member) and name in vars(H11Protocol)]
DOCUMENTED = [*(getattr(LimitedConnection, name) for name in OVERRIDDEN), ChunkLimit, TlsHandshake]


def test_uvicorn_is_pinned_to_the_tested_minor_version() -> None:
    (pin,) = (each.partition(";")[0].replace(" ", "") for each in requires("popug") or [] if each.startswith("uvicorn"))
    major, minor, *_ = map(int, version("uvicorn").split("."))
    assert sorted(pin.removeprefix("uvicorn").split(",")) == [f"<{major}.{minor + 1}", f">={major}.{minor}"]


def test_every_override_is_known() -> None:
    assert sorted(OVERRIDDEN) == [
        "__init__",
        "connection_lost",
        "connection_made",
        "eof_received",
        "handle_events",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "send_400_response",
        "shutdown",
    ]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda each: str(each.__name__))
def test_docstring_names_the_option_it_replaces(documented: object) -> None:
    docstring = " ".join((inspect.getdoc(documented) or "").split())
    options = set(OPTION.findall(docstring)) - OF_ASYNCIO
    assert options <= set(inspect.signature(uvicorn.Config).parameters)
    assert ("eplaces" in docstring and options) or "no option" in docstring, docstring


def test_uvicorn_has_the_attributes_that_we_use() -> None:
    async def make() -> H11Protocol:
        return H11Protocol(uvicorn.Config(print, lifespan="off", log_config=None), ServerState(), {})

    protocol = asyncio.run(make())
    assert {"conn", "cycle", "connections", "transport", "loop", "scheme", "server_state", "app_state"} <= vars(
        protocol
    ).keys()
    assert {"connections", "default_headers"} <= vars(protocol.server_state).keys()
    assert isinstance(protocol.conn, h11.Connection)
    created = inspect.getsource(RequestResponseCycle.__init__)
    assert all(f"self.{name} = " in created for name in ("body", "more_body", "response_started", "response_complete"))
