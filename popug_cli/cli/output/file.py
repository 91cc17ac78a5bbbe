"""Write an answer to a file instead of stdout."""

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkstemp

from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import Conflict, InvalidInput

STDOUT = Path("-")


def is_stdout(path: Path | None) -> bool:
    """Return whether an answer goes to stdout: ``path`` is None or ``-``."""
    return path is None or path == STDOUT


def write_new_file(path: Path, lines: Iterable[str], *, force: bool) -> int:
    """Write a file that only its owner can read, atomically by rename; return the number of ``lines`` that have text.

    A device or a pipe is written to, never replaced. Raises ``file_exists`` for any existing path unless ``force``,
    ``unwritable_file`` for a directory or a path that cannot be written, ``disk_full`` and ``io_error``.
    """
    _refuse_directory(path)
    _refuse_existing(path, force=force)
    if path.exists() and not path.is_file():
        return _write_to_device(path, lines)
    try:
        descriptor, name = mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        line_count = _write_to_disk(descriptor, lines)
        _refuse_existing(path, force=force)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return line_count


def _write_to_device(device: Path, lines: Iterable[str]) -> int:
    try:
        with device.open("w", encoding="utf-8", newline="\n") as file:
            return sum(1 for line in lines if file.write(line))
    except OSError as error:
        raise unwritable(device, error) from error


def _write_to_disk(descriptor: int, lines: Iterable[str]) -> int:
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        line_count = sum(1 for line in lines if file.write(line))
        file.flush()
        os.fsync(descriptor)
    return line_count


def _refuse_directory(path: Path) -> None:
    """Raise ``unwritable_file`` for a directory; an empty name is the current directory."""
    if path.is_dir():
        raise InvalidInput(
            "unwritable_file",
            f"{path} is a directory." if path.name else "--out does not name a file.",
            hint="Name a file, or give - for stdout.",
            details={"path": str(path)},
        )


def _refuse_existing(path: Path, *, force: bool) -> None:
    """Raise ``file_exists`` for an existing path or a dangling link, unless ``force``."""
    if os.path.lexists(path) and not force:
        raise Conflict(
            "file_exists",
            f"{path} already exists.",
            hint="Give --force to replace it, or name another file.",
            details={"path": str(path)},
        )
