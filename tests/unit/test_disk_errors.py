"""Errors of the disk, and how the program reports them."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from popug_cli.kernel import disk_errors
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import replace_restoring_on_error
from popug_cli.platform import files, posix_errors
from popug_cli.storage import errors
from popug_cli.storage.sqlite import SqliteConnection


def test_make_directory_syncs_every_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    files.make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    files.make_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.EACCES, False), (errno.EIO, True)])
def test_sync_directory_raises_only_for_disk_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "sync", fail)
    if is_raised:
        with pytest.raises(OSError, match="error"):
            files.sync_directory(tmp_path)
    else:
        files.sync_directory(tmp_path)


def test_disk_full_reports_space_of_nearest_existing_directory(tmp_path: Path) -> None:
    message = disk_errors.disk_full(tmp_path / "gone" / "popug.db").message
    assert message.startswith("The disk is full (")
    assert message.endswith(f" KiB left at {tmp_path}).")
    assert posix_errors.probe_write_error(tmp_path / "gone") is None


@pytest.mark.parametrize("before", [None, b"before"])
def test_replaced_file_is_restored_if_a_later_step_fails(tmp_path: Path, before: bytes | None) -> None:
    file = tmp_path / "config.toml"
    if before is not None:
        file.write_bytes(before)

    def fail() -> None:
        with replace_restoring_on_error(file, b"after"):
            assert file.read_bytes() == b"after"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (file.read_bytes() if file.exists() else None) == before
    with replace_restoring_on_error(file, b"after"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    assert file.read_bytes() == b"after"


@pytest.mark.parametrize(
    ("refusal", "code", "expected_code"),
    [
        (errno.ENOSPC, sqlite3.SQLITE_IOERR, "disk_full"),
        (errno.EDQUOT, sqlite3.SQLITE_CANTOPEN, "disk_full"),
        (None, sqlite3.SQLITE_IOERR, "io_error"),
        (None, sqlite3.SQLITE_CANTOPEN, "io_error"),
        (errno.EROFS, sqlite3.SQLITE_CANTOPEN, "read_only"),
        (None, sqlite3.SQLITE_READONLY, "read_only"),
        (errno.ENOSPC, sqlite3.SQLITE_FULL, "disk_full"),
    ],
)
def test_ambiguous_sqlite_error_probes_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None, code: int, expected_code: str
) -> None:
    database = tmp_path / "popug.db"
    database.touch()
    monkeypatch.setattr(errors, "probe_write_error", lambda place: refusal)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    fault = errors.environment_error(error, database)
    assert isinstance(fault, PopugError)
    assert (fault.code, fault.exit_status) == (expected_code, 8)


class Driver:
    """A connection whose commit is written and not synced; the checkpoint after it does as the test says."""

    in_transaction = False

    def __init__(self, checkpoint: int | None) -> None:
        self._checkpoint = checkpoint

    def execute(self, statement: str) -> "Driver":
        if statement == "COMMIT" or self._checkpoint is None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return self

    def fetchone(self) -> tuple[int, int, int]:
        assert self._checkpoint is not None
        return (self._checkpoint, 0, 0)


@pytest.mark.parametrize(("checkpoint", "is_in_doubt"), [(0, False), (1, True), (None, True)])
def test_unsynced_commit_is_rolled_back_or_in_doubt(tmp_path: Path, checkpoint: int | None, is_in_doubt: bool) -> None:
    driver = cast(sqlite3.Connection, Driver(checkpoint))
    connection = SqliteConnection(Mock(path=tmp_path / "popug.db"), driver, writes=True)
    with pytest.raises(PopugError if is_in_doubt else sqlite3.OperationalError) as raised:
        connection.commit()
    if isinstance(raised.value, PopugError):
        assert raised.value.code == "in_doubt"
        assert "It may have taken effect all the same." in raised.value.message
