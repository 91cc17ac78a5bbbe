"""Read files of JSON lines for imports."""

import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.kernel.errors import InvalidInput
from popug_cli.platform.posix_errors import NO_SPACE

MAX_LINE_BYTES = 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Line = TypeVar("Line")


class JsonLines(Collection[Line | None]):
    """The parsed lines of a file, None for a blank line. Each iteration reads the file again.

    The constructor and each iteration raise ``unreadable_file``, or ``invalid_line`` with the number of the first line
    that is too long or does not match ``line_type``.
    """

    def __init__(self, file: BinaryIO, source: str, line_type: type[Line]) -> None:
        self._file = file
        self._source = source
        self._start = file.tell()
        self._decode = msgspec.json.Decoder(line_type).decode
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Line | None]:
        self._file.seek(self._start)
        number = 0
        while line := self._next_line():
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _invalid_line(number, f"it has more than {MAX_LINE_BYTES:,} bytes")
            try:
                yield self._parse(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise _invalid_line(number, str(error)) from error

    def __contains__(self, line: object) -> bool:
        return any(item == line for item in self)

    def _next_line(self) -> bytes:
        try:
            return self._file.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise _unreadable(self._source, error) from error

    def _parse(self, line: bytes) -> Line | None:
        return self._decode(line) if line.strip() else None


@contextmanager
def json_lines(source: str, line_type: type[Line]) -> Iterator[JsonLines[Line]]:
    """Open a file of JSON lines of any size and check every line; ``-`` is stdin.

    Raises ``unreadable_file``, ``invalid_line``, or ``disk_full`` if a pipe does not fit into a temporary file.
    """
    with ExitStack() as open_files:
        file: BinaryIO = sys.stdin.buffer if source == "-" else open_files.enter_context(_open(source))
        if not file.seekable():
            file = open_files.enter_context(_copy_to_file(file, source))
        yield JsonLines(file, source, line_type)


def _open(source: str) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _copy_to_file(file: BinaryIO, source: str) -> BinaryIO:
    """Copy a pipe or a terminal to a temporary file, because each iteration reads the lines again."""
    import tempfile
    from shutil import copyfileobj

    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        copyfileobj(file, copy)
        copy.flush()
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_full(Path(tempfile.gettempdir())) from error
        raise _unreadable(source, error) from error
    copy.seek(0)
    return copy


def _unreadable(source: str, error: OSError | ValueError) -> InvalidInput:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    sentence = f"{source} cannot be read: {reason}."
    return InvalidInput("unreadable_file", sentence, hint="Name a file of JSON lines, or - for stdin.")


def _invalid_line(number: int, reason: str) -> InvalidInput:
    return InvalidInput(
        "invalid_line",
        f"Line {number} is not valid: {reason}.",
        hint="Nothing was imported. Fix that line and import the file again.",
        details={"line": number},
    )
