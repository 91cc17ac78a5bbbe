"""The file of an answer: written whole or not at all, and never over another without `--force`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.cli.output.file import write_new_file
from popug_cli.kernel.errors import PopugError


def test_lines_are_written_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert write_new_file(file, ["a\n", "ж\n"], force=False) == 2
    assert file.read_text(encoding="utf-8") == "a\nж\n"
    assert [*tmp_path.iterdir()] == [file]


def test_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("old")
    with pytest.raises(PopugError) as caught:
        write_new_file(file, ["new"], force=False)
    assert (caught.value.code, caught.value.exit_status, file.read_text()) == ("file_exists", 6, "old")
    write_new_file(file, ["new"], force=True)
    assert file.read_text() == "new"


def test_device_is_written_into_and_stays_one(tmp_path: Path) -> None:
    terminal, other_end = os.openpty()
    try:
        device = tmp_path / "device"
        device.symlink_to(os.ttyname(other_end))
        assert write_new_file(device, ["a\n", "b\n"], force=True) == 2
        shown = b""
        while len(shown) < len(b"a\r\nb\r\n"):  # the kernel passes on the data that has arrived so far
            shown += os.read(terminal, 100)
        assert shown == b"a\r\nb\r\n"
        assert device.is_symlink()
        with pytest.raises(PopugError, match="already exists"):
            write_new_file(device, ["a"], force=False)
    finally:
        os.close(terminal)
        os.close(other_end)


def test_full_device_is_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(PopugError) as caught:
        write_new_file(tmp_path / "full", ["a"], force=True)
    assert (caught.value.code, caught.value.exit_status) == ("disk_full", 8)


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield "a\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_new_file(tmp_path / "out", lines(), force=False)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["missing/out", "nul\0", "file/out", "folder"])
def test_unwritable_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(PopugError) as caught:
        write_new_file(tmp_path / name, ["a"], force=True)
    assert (caught.value.code, caught.value.exit_status) == ("unwritable_file", 2)
