"""Addresses of servers, as users type them."""

from pathlib import Path

import pytest

from popug_cli.client.address import Address, parse
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import socket_url


@pytest.mark.parametrize(
    ("written", "address", "url"),
    [
        ("unix:///run/popug.sock", Address(path="/run/popug.sock"), "unix:///run/popug.sock"),
        ("unix:///a%20b/popug.sock", Address(path="/a b/popug.sock"), "unix:///a b/popug.sock"),
        ("unix:///a b/pöpug.sock", Address(path="/a b/pöpug.sock"), "unix:///a b/pöpug.sock"),
        ("unix:////run/.//popug.sock/", Address(path="/run/popug.sock"), "unix:///run/popug.sock"),
        ("http://localhost:8020", Address(host="localhost", port=8020), "http://localhost:8020"),
        ("HTTP://LocalHost:8020/", Address(host="localhost", port=8020), "http://localhost:8020"),
        ("http://popug", Address(host="popug", port=80), "http://popug"),
        ("https://popug.example:443", Address(host="popug.example", port=443, has_tls=True), "https://popug.example"),
        ("https://popug.example:8443", Address("popug.example", 8443, has_tls=True), "https://popug.example:8443"),
        ("http://[::1]:8020", Address(host="::1", port=8020), "http://[::1]:8020"),
    ],
)
def test_address_has_one_spelling(written: str, address: Address, url: str) -> None:
    assert parse(written) == address
    assert parse(written).url == url


@pytest.mark.parametrize("path", ["/run/popug.sock", "/home/jürgen/a b/100%25/#?.sock", "/no\udcfftext.sock"])
def test_socket_url_parses_to_its_path(path: str) -> None:
    assert socket_url(Path(path)).isascii()
    assert parse(socket_url(Path(path))) == Address(path=path)


@pytest.mark.parametrize(
    ("written", "in_the_clear"),
    [
        ("unix:///run/popug.sock", False),
        ("http://localhost:8020", False),
        ("http://127.0.1.1:8020", False),
        ("http://[::1]", False),
        ("https://popug.example", False),
        ("http://popug.example", True),
        ("http://192.0.2.1:8020", True),
    ],
)
def test_unencrypted_remote_address_is_recognised(written: str, in_the_clear: bool) -> None:
    assert parse(written).is_unencrypted_remote is in_the_clear


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            "localhost",
            "localhost:8020",
            "/run/popug.sock",
            "ftp://popug",
            "unix://",
            "unix://popug.sock",
            "unix:///a%00b",
        ),
        *(
            "http://",
            "http://:8020",
            "http://popug:0",
            "http://popug:99999",
            "http://popug:x",
            "http://[::1",
            "http:popug",
            "http://.:80",
            "http://popug..example",
            f"http://{'x' * 64}.example",
        ),
        *("http://user:secret@popug", "http://popug/path", "http://popug?x=1", "http://popug#x", "http://pöpug"),
        *("http://popug\r\nX: y", "http://po pug", "http://popug\t", "unix:///a\nb", "\udcff"),
    ],
)
def test_invalid_address_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(written)
    assert caught.value.code == "invalid_server"
    assert "unix:///" in caught.value.hint
