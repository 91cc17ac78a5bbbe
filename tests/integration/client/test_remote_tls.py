"""TLS: only a trusted certificate of the named host gets a request."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from tests.support.certificates import self_signed
from tests.support.fake_server import ADA, QUERY, SECRET, answer, read_request, refusal


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for localhost and its key."""
    return self_signed(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def secured(certificate: Path) -> Iterator[str]:
    """The port of a server with TLS that answers every request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    talk(listening.accept()[0])

        def talk(plain: socket.socket) -> None:
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                stream = connection.makefile("rb")
                while read_request(stream, 0) is not None:
                    connection.sendall(answer(ADA))

        threading.Thread(target=accept, daemon=True).start()
        yield str(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def test_untrusted_certificate_gets_no_request(secured: str) -> None:
    error = refusal(lambda: RemoteBackend(parse(f"https://localhost:{secured}")).perform(SECRET))
    assert error.code == "server_unavailable"
    assert "certificate" in error.message.lower()
    assert "SSL_CERT_FILE" in error.hint


def test_trusted_certificate_is_valid_for_its_host_only(
    secured: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    backend = RemoteBackend(parse(f"https://localhost:{secured}"))
    assert [backend.perform(QUERY, "t").username for _ in range(3)] == ["ada"] * 3
    other = refusal(lambda: RemoteBackend(parse(f"https://127.0.0.1:{secured}")).perform(QUERY, "t"))
    assert "127.0.0.1" in other.message


def test_tls_mismatch_is_unavailable(secured: str) -> None:
    without = f"http://127.0.0.1:{secured}"
    assert refusal(lambda: RemoteBackend(parse(without)).perform(QUERY, "t")).code == "server_unavailable"
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def accept() -> None:
            with suppress(OSError), plain.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=accept, daemon=True).start()
        url = f"https://localhost:{plain.getsockname()[1]}"
        error = refusal(lambda: RemoteBackend(parse(url)).perform(QUERY, "t"))
        assert (error.code, "does not use TLS" in error.message) == ("server_unavailable", True)
