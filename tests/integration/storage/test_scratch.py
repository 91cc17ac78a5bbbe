"""Scratch databases: where their content is, and what other accounts can do to them."""

from pathlib import Path

import pytest

from popug_cli.storage import scratch
from popug_cli.storage.disk_counter import count_on_disk

ROWS = 2_000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
@pytest.mark.parametrize("has_directory", [True, False])
def test_counts_need_no_directory_for_temporary_files(has_directory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "CACHE_KIB", 16)
    if not has_directory:
        monkeypatch.setattr(scratch, "temporary_directory", lambda: None)
    open_before = unnamed_files()
    with count_on_disk() as times_seen:
        assert {times_seen(f"{number:0100d}") for number in range(ROWS)} == {1}
        assert times_seen(f"{0:0100d}") == 2
        assert len(unnamed_files() - open_before) == has_directory


def test_first_usable_directory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch.temporary_directory() == tmp_path


def test_scratch_database_uses_no_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    (tmp_path / "popug-scratch").touch()
    database = scratch.ScratchDatabase()
    with database.transaction(writes=True) as connection:
        connection.execute("CREATE TABLE t (n)")
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["popug-scratch"]


def unnamed_files() -> set[str]:
    """Return the paths of the unnamed files that SQLite has open in this process."""
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return {file for file in files if "etilqs_" in file}
