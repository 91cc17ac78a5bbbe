"""A client sends nothing to a socket on which another account listens, whatever its name and place say."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popug_cli.client import http
from popug_cli.client.address import Address, parse
from popug_cli.client.discovery import find_local_server
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import no_progress
from popug_cli.platform import peer
from tests.support.accounts import OTHER, ROOT, interpreter, only_root, own_folder, shared_folder

LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    print("got", len(connection.recv(100)), flush=True)
"""


@contextmanager
def listening(path: Path, account: int) -> Iterator["subprocess.Popen[str]"]:
    """Let a process of an account listen on a socket; it prints how many bytes each connection sends."""
    process = subprocess.Popen(
        [interpreter(), "-c", LISTEN, str(path)],
        user=account, group=account, extra_groups=[], stdout=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def find(home: Home) -> tuple[bool, list[str]]:
    """Return whether a server was found, and the warnings."""
    warnings: list[str] = []
    backend = find_local_server(home, lambda sentence: None, no_progress, on_distrust=warnings.append)
    if backend is not None and backend._connection is not None:
        backend._connection.close()
    return backend is not None, warnings


@only_root
def test_socket_of_another_account_receives_nothing() -> None:
    """The file is given to the client's account, so that only the peer's user id shows who listens."""
    with shared_folder() as folder:
        home = Home(own_folder(folder / "home", OTHER))
        with listening(home.socket, OTHER) as process:
            for path in (home.root, home.socket):
                os.chown(path, ROOT, ROOT)
            home.root.chmod(0o700)
            found, warnings = find(home)
            assert not found
            reason = f"the account with uid {OTHER} listens there, which is not trusted"
            assert warnings == [f"The socket {home.socket} is not used: {reason}."]
            with pytest.raises(http.UntrustedPeerError):  # so does each later connection
                http.connect(Address(path=str(home.socket), trusted_user_ids=frozenset({ROOT})))
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["got 0\n"] * 2


@only_root
def test_socket_in_a_planted_runtime_directory_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with shared_folder() as folder:
        runtime = own_folder(folder / "run", OTHER)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        home = Home(folder / ("long" * 20) / ("longer" * 10))
        home.root.mkdir(parents=True, mode=0o700)
        with listening(home.socket, OTHER):
            found, warnings = find(home)
            assert (found, len(warnings)) == (False, 1)
            assert f"it belongs to the account with uid {OTHER}" in warnings[0]
            os.chown(home.socket, ROOT, ROOT)
            found, warnings = find(home)
            assert (found, len(warnings)) == (False, 1)
            assert f"other accounts can write to {runtime}" in warnings[0]


@only_root
def test_server_of_the_homes_owner_is_used() -> None:
    """The superuser may use the server of a home of another account."""
    with shared_folder() as folder:
        home = Home(own_folder(folder / "home", OTHER))
        with listening(home.socket, OTHER):
            assert find(home) == (True, [])


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_socket_in_a_directory_open_to_others_is_not_used(tmp_path: Path, mode: int) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
        listener.listen()
        home.root.chmod(mode)
        found, warnings = find(home)
        assert (found, len(warnings)) == (False, 1)
        home.root.chmod(0o700)
        assert find(home) == (True, [])


def test_no_socket_is_no_server_and_no_warning(tmp_path: Path) -> None:
    assert find(Home(tmp_path / "missing")) == (False, [])
    (tmp_path / "popug.sock").write_text("")
    assert find(Home(tmp_path)) == (False, [])


def test_server_that_just_ended_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server removes its socket as soon as the client has seen it."""
    home, seen = Home(tmp_path), os.lstat

    def remove_after(path: Path, **options: int) -> os.stat_result:
        status = seen(path, **options)
        home.socket.unlink()
        return status

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
    monkeypatch.setattr(Path, "lstat", remove_after)
    assert find(home) == (False, [])


def test_busy_server_is_checked_when_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first connection times out, the later one asks for the peer's account as well."""
    home = Home(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
        listener.listen()

        def slow(address: Address) -> socket.socket:
            raise TimeoutError

        monkeypatch.setattr(http, "connect", slow)
        backend = find_local_server(home, lambda sentence: None, no_progress)
        monkeypatch.undo()
        assert backend is not None
        monkeypatch.setattr(http, "user_id_of_peer", lambda connection: OTHER)
        with pytest.raises(http.UntrustedPeerError):
            http.connect(backend.address)


def test_account_of_a_peer_is_that_of_its_process() -> None:
    first, second = socket.socketpair(socket.AF_UNIX)
    with first, second:
        assert peer.user_id_of_peer(first) == os.geteuid()


def test_answer_of_local_peercred_is_parsed() -> None:
    """struct xucred of macOS: version, user id, number of groups, sixteen groups."""
    xucred = struct.pack("=IIhxx16I", 0, 501, 2, 20, 12, *[0] * 14)
    assert len(xucred) == peer.XUCRED_BYTES
    assert peer.parse_xucred(xucred) == 501
    for short in (b"", xucred[:7]):
        with pytest.raises(OSError, match="does not report"):
            peer.parse_xucred(short)


def test_unix_address_of_the_user_is_not_limited(tmp_path: Path) -> None:
    """A socket that the user names may belong to any account: that of a service, or systemd's."""
    assert parse(f"unix://{tmp_path}/popug.sock").trusted_user_ids == frozenset()


def test_macos_asks_with_local_peercred(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            asked.append((level, option, size))
            return struct.pack("=IIhxx16I", 0, 501, 1, *[20] * 16)

    monkeypatch.setattr("sys.platform", "darwin")
    assert peer.user_id_of_peer(Connection()) == 501  # type: ignore[arg-type]
    assert asked == [(0, 1, 76)]
