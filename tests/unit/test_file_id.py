"""Whether a path still names the same file, and whether that file changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popug_cli.platform.file_id import file_fingerprint, file_id, require_fingerprint


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(1, 1))
    other.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    os.utime(file, ns=(1, 1))
    return file


def test_file_id_follows_file_not_name(file: Path) -> None:
    before = file_id(file)
    file.rename(file.with_name("moved"))
    assert file_id(file) is None
    assert file_id(file.with_name("moved")) == before


@pytest.mark.parametrize(
    "change",
    [
        replace,
        lambda file: os.truncate(file, 3),
        lambda file: os.utime(file, ns=(1, 2)),
        lambda file: file.chmod(0o640),
    ],
    ids=["replaced", "cut", "written", "mode"],
)
def test_fingerprint_changes_with_file(file: Path, change: Callable[[Path], None]) -> None:
    before = file_fingerprint(file)
    assert before == file_fingerprint(str(file)) == require_fingerprint(file)
    change(file)
    assert file_fingerprint(file) != before


def test_missing_file_has_no_fingerprint(tmp_path: Path) -> None:
    assert file_fingerprint(tmp_path / "missing") is None
    with pytest.raises(FileNotFoundError):
        require_fingerprint(tmp_path / "missing")
