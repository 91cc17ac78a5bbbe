"""The socket of a home's server."""

import os
from pathlib import Path

import pytest

from popug_cli.kernel.home import MAX_SOCKET_PATH_BYTES, Home, runtime_directory
from popug_cli.platform.files import is_private_directory

LONG = Path("/") / ("n" * MAX_SOCKET_PATH_BYTES)


def test_socket_is_in_the_home() -> None:
    assert Home(Path("/srv/popug")).socket == Path("/srv/popug/popug.sock")


def test_socket_of_long_path_is_in_the_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/4711")
    found = Home(LONG).socket
    assert found.parent == Path("/run/user/4711")
    assert found != Home(LONG / "other").socket
    assert found == Home(LONG / "." / "x" / "..").socket


def test_runtime_directory_defaults_to_one_per_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert runtime_directory() == Path(f"/tmp/popug-{os.getuid()}")


def test_directory_writable_by_others_is_not_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert is_private_directory(tmp_path)
    tmp_path.chmod(0o770)
    assert not is_private_directory(tmp_path)
    assert not is_private_directory(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path)
    assert not is_private_directory(tmp_path / "link")
