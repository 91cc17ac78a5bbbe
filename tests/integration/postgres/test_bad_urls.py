"""A URL that names no usable PostgreSQL database is refused with a sentence, and changes nothing."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.text import MASK, NOT_SHOWN, without_password
from tests.support.installed_company import Company, snapshot
from tests.support.postgres.programs import require_postgres

HOST = "127.0.0.1"
SECRET = "s3cret"
INVALID = {
    "http://127.0.0.1/one": "it begins with http://, not with postgresql://",
    "postgresq://127.0.0.1/one": "it begins with postgresq://, not",
    "postgresql+psycopg://ada@host/one": "it begins with postgresql+psycopg://",
    "POSTGRESQL://host/one": "does not begin with postgresql://",
    f"host=h dbname=d password={SECRET}": "does not begin with postgresql://",
    " ": "does not begin with postgresql://",
    "postgresql://": "it names no database",
    "postgresql://ada@host/": "it names no database",
    "postgresql://ada@host/one?dbname=": "it names no database",
    f"postgresql://ada:{SECRET}@[::1/one": "its parts are not valid",
    f"postgresql://ada:{SECRET}%ff%@host/one": "its parts are not valid",
    f"postgresql://ada:{SECRET}%00@host/one": "its parts are not valid",
    f"postgresql://ada:{SECRET}\udcff@host/one": "its parts are not valid",
    f"postgresql://ada:a@{SECRET}@host/one": "an @ or a slash that belongs to a password",
    f"postgresql://ada:a/{SECRET}@host/one": "an @ or a slash that belongs to a password",
    f"postgresql://ada:a?@{SECRET}@host/one": "an @ or a slash that belongs to a password",
    "postgresql://ada@host/one?sslmod=require": "it has the unknown parameter sslmod",
    f"postgresql://ada@host/one?password={SECRET}&x{SECRET}=1": "its parts are not valid",
    f"postgresql://ada:{SECRET}@host/o%1b[31mne": "control characters",
    f"postgresql://ada:{SECRET}@host/o%e2%80%aene": "control characters",
    f"postgresql://ada:{SECRET}@host%0a/one": "control characters",
    f"postgresql://ada:{SECRET}@host:99999/one": "it has the port 99999, not one from 1 to 65535",
    f"postgresql://ada:{SECRET}@host:1,b:port/one": "it has the port port, not one",
    f"postgresql://ada:{SECRET}@127.0.0.1/one?sslmode=sometimes": 'invalid sslmode value: "sometimes"',
    f"postgresql://ada:{SECRET}@127.0.0.1/one?keepalives=maybe": 'invalid integer value "maybe"',
    f"postgresql://ada:{SECRET}@127.0.0.1/one?connect_timeout=soon": "connect_timeout: 'soon'",
    f"postgresql://ada:{SECRET}@127.0.0.1/one?target_session_attrs=best": 'invalid target_session_attrs value: "best"',
    "postgresql://ada@/one?service=none": 'definition of service "none" not found',
}


def connect(url: str) -> PopugError:
    """Return the error of the attempt to use the database at a URL."""
    require_postgres()
    from popug_cli.storage.postgres.driver import PostgresDatabase

    with pytest.raises(PopugError) as raised:
        PostgresDatabase(url).is_created()
    assert raised.value.__cause__ is None or SECRET not in str(raised.value.__cause__)
    assert SECRET not in f"{raised.value.message} {raised.value.hint} {raised.value.details}"
    return raised.value


@pytest.mark.parametrize("url", INVALID, ids=[*map(ascii, INVALID)])
def test_invalid_url_refused_with_its_fault(url: str) -> None:
    error = connect(url)
    assert (error.code, error.exit_status) == ("invalid_url", 2)
    assert INVALID[url] in error.message
    assert "postgresql://USER@HOST:PORT/DATABASE" in error.hint


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections on a port; ``answer`` handles each in a thread."""
    with socket.create_server((HOST, 0)) as server:

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[client], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def refuse_as_web_server(client: socket.socket) -> None:
    """Answer as a web server that does not wait for a whole line."""
    with client:
        client.recv(65536)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("query", ["", "?sslmode=disable"])
def test_impatient_web_server_is_unavailable(query: str) -> None:
    with listener(refuse_as_web_server) as port:
        error = connect(f"postgresql://ada:{SECRET}@{HOST}:{port}/one{query}")
    assert (error.code, error.exit_status) == ("database_unavailable", 8)
    assert "the program that listens there is not a PostgreSQL server" in error.message


def test_patient_web_server_is_unavailable() -> None:
    web = ThreadingHTTPServer((HOST, 0), SimpleHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        error = connect(f"postgresql://ada:{SECRET}@{HOST}:{web.server_port}/one?connect_timeout=2")
    finally:
        web.shutdown()
    assert (error.code, error.exit_status) == ("database_unavailable", 8)
    assert "no PostgreSQL server answered in time" in error.message


def test_server_that_is_down_is_unavailable() -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    error = connect(f"postgresql://ada:{SECRET}@{HOST}:{port}/one")
    assert (error.code, error.exit_status) == ("database_unavailable", 8)
    assert error.message == f"The PostgreSQL database one on {HOST}:{port} cannot be used: Connection refused."


def test_server_that_never_answers_is_unavailable() -> None:
    silent: list[socket.socket] = []
    with listener(silent.append) as port:
        error = connect(f"postgresql://ada:{SECRET}@{HOST}:{port}/one?connect_timeout=2")
    assert (error.code, error.exit_status) == ("database_unavailable", 8)
    assert "no PostgreSQL server answered in time" in error.message


def old_server(client: socket.socket) -> None:
    """Answer as PostgreSQL 14 does to a start-up and to what follows it."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    with client:
        while (request := client.recv(65536)) and len(request) == 8:  # a request for TLS or GSS
            client.sendall(b"N")
        status = {b"server_version": b"14.9", b"server_encoding": b"UTF8", b"client_encoding": b"UTF8",
                  b"standard_conforming_strings": b"on", b"in_hot_standby": b"off",
                  b"default_transaction_read_only": b"off"}  # fmt: skip
        client.sendall(
            message(b"R", struct.pack("!i", 0))
            + b"".join(message(b"S", name + b"\0" + value + b"\0") for name, value in status.items())
            + message(b"K", struct.pack("!ii", 1, 1))
            + message(b"Z", b"I")
        )
        client.recv(65536)


def test_server_that_is_too_old_is_unavailable() -> None:
    with listener(old_server) as port:
        error = connect(f"postgresql://ada:{SECRET}@{HOST}:{port}/one")
    assert (error.code, error.exit_status) == ("database_unavailable", 8)
    assert "its version is 14, popug needs 15 or later" in error.message


def test_invalid_variable_never_leads_to_the_file(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.init()
    before = snapshot(company.home)
    for url in (f"postgresql://a:{SECRET}@h/o\x1bne", f"postgresql://a:{SECRET}@h/o\nne", "file:popug.db"):
        for line in (["tasks", "list"], ["doctor"], ["config", "show"], ["backup"]):
            done = company.run(*line, env={"POPUG_DATABASE": url, "POPUG_TRACEBACK": "1"}, as_json=False)
            assert done.code == 2, done
            assert SECRET not in done.stderr + done.stdout
    assert snapshot(company.home) == before


@pytest.mark.parametrize(
    ("url", "shown"),
    {
        "": "",
        "postgresql://host/one": "postgresql://host/one",
        "postgresql://ada@h1:1,h2:2/one?sslmode=require": "postgresql://ada@h1:1,h2:2/one?sslmode=require",
        f"postgresql://ada:{SECRET}@host/one": f"postgresql://ada:{MASK}@host/one",
        f"postgresql://ada:{SECRET}@x{SECRET}@host/one": f"postgresql://ada:{MASK}@host/one",
        f"postgresql://ada:a/{SECRET}@host/one": f"postgresql://ada:{MASK}@host/one",
        f"postgresql://ada:a?{SECRET}@host/one?sslmode=x": f"postgresql://ada:{MASK}@host/one?sslmode=x",
        f"postgresql://ada@host/one?sslmode=x&p%61ssword={SECRET}": f"postgresql://ada@host/one?sslmode=x&p%61ssword={MASK}",
        f"postgresql://host/one?sslpassword={SECRET}&user=b": f"postgresql://host/one?sslpassword={MASK}&user=b",
        f"host=h password={SECRET}": NOT_SHOWN,
        f"mysql://ada:{SECRET}@host/one": NOT_SHOWN,
    }.items(),
)  # fmt: skip
def test_url_is_shown_without_passwords(url: str, shown: str) -> None:
    assert without_password(url) == shown
