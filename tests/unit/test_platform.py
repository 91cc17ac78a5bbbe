"""The details of the operating system: which file a path names, and the signal behind an error."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from popug_cli.platform.file_id import file_fingerprint, file_id, require_fingerprint
from popug_cli.platform.signals import Terminated, find_in_context, find_interrupt, interrupt_message


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


def error_during(*during: BaseException) -> BaseException:
    """The last of some exceptions, each raised while the one before it ended the work."""
    for before, after in pairwise(during):
        after.__context__ = before
    return during[-1]


def test_nearest_of_kinds_is_found() -> None:
    first, second = KeyError("1"), KeyError("2")
    error = error_during(first, second, ValueError())
    assert find_in_context(error, KeyError) is second
    assert find_in_context(error, (KeyError, ValueError)) is error
    assert find_in_context(error, OSError) is None


def test_exceptions_can_be_skipped() -> None:
    class Stop(BaseException):
        """As a scheduler raises it in its own thread."""

    stop = Stop()
    error = error_during(KeyError(), stop, ValueError(), TypeError())
    assert find_in_context(error, BaseException, except_for=(Exception,)) is stop
    assert find_in_context(KeyError(), BaseException, except_for=(Exception,)) is None


def test_interrupt_is_found_behind_error() -> None:
    stop = Terminated(signal.SIGTERM)
    assert find_interrupt(error_during(stop, AssertionError())) is stop
    assert find_interrupt(AssertionError()) is None


def test_interrupt_message_is_the_first_said() -> None:
    assert interrupt_message(error_during(KeyboardInterrupt("kept"), ValueError("x"), KeyboardInterrupt())) == "kept"
    assert interrupt_message(error_during(ValueError("x"), KeyboardInterrupt())) == ""
