"""Read files for imports: JSON lines, a JSON array, CSV with a header, or plain text with one value a line."""

import csv
import io
import re
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from popug_cli.cli.context import CommandContext
from popug_cli.kernel.disk_errors import disk_full, unreadable
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import escape_hidden
from popug_cli.messages.base import MAX_MESSAGE_BYTES
from popug_cli.platform.posix_errors import NO_SPACE
from popug_cli.platform.temporary import unnamed_file

MAX_LINE_BYTES = 1024 * 1024
MAX_UNKNOWN_FIELDS = 20
MAX_NAME_CHARACTERS = 60  # of an unknown field
HEAD_BYTES = 4  # enough to detect the encoding of a file
NOT_UTF_8 = "it is not valid UTF-8; save the file as UTF-8"
JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
CSV_SUFFIXES = {".csv", ".tsv"}
COPY_CHARACTERS = 1024 * 1024
_ARRAY_START = re.compile(rb'\[\s*(?:[{"\]]|\Z)')
Line = TypeVar("Line")
Record = tuple[int, object]  # the number of a line, or of an item of an array, and its value; None for a blank line


class ImportLines(Collection[Line | None], Generic[Line]):
    """The parsed lines of a file, None for a blank line. Each iteration reads the file again.

    The constructor and each iteration raise ``unreadable_file``, or ``invalid_line`` with the number of the first line
    that is too long or does not match ``line_type``. ``plain_field`` is the field that a line of plain text fills;
    without it, plain text is not valid. ``unknown_fields`` are the first ``MAX_UNKNOWN_FIELDS`` names in the file that
    ``line_type`` does not have, and ``has_more_unknown_fields`` says whether there are others.
    """

    def __init__(self, file: BinaryIO, source: str, line_type: type[Line], plain_field: str | None = None) -> None:
        self._file = file
        self._source = source
        self._start = file.tell()
        self._line_type = line_type
        self._plain_field = plain_field
        self._fields = {field.name: field for field in msgspec.structs.fields(line_type)}  # type: ignore[arg-type]
        self.unknown_fields: dict[str, None] = {}  # a set in the order of the file
        self.has_more_unknown_fields = False
        self._records = self._find_format()
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Line | None]:
        self._file.seek(self._start)
        for number, value in self._records():
            try:
                yield None if value is None else self._parse(value)
            except msgspec.ValidationError as error:
                raise _invalid_line(number, str(error)) from error

    def __contains__(self, line: object) -> bool:
        return any(item == line for item in self)

    @property
    def field_names(self) -> list[str]:
        """The names of the fields that are read."""
        return [*self._fields]

    def _parse(self, value: object) -> Line:
        if isinstance(value, dict) and not self.has_more_unknown_fields:
            self._note_unknown_fields(value)
        return msgspec.convert(value, self._line_type)

    def _note_unknown_fields(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._fields:
                continue
            shown = escape_hidden(name if len(name) <= MAX_NAME_CHARACTERS else f"{name[:MAX_NAME_CHARACTERS]}…")
            if shown not in self.unknown_fields and len(self.unknown_fields) == MAX_UNKNOWN_FIELDS:
                self.has_more_unknown_fields = True
                return
            self.unknown_fields[shown] = None

    def _find_format(self) -> Callable[[], Iterator[Record]]:
        """Detect the format by the file's name and its first line with text; return the function that reads records.

        Raise ``invalid_line`` for a CSV header that names a field twice, or for a file named as CSV whose header lacks
        a required field.
        """
        self._file.seek(self._start)
        first = next((line for line in iter(self._next_line, b"") if line.strip()), b"").strip()
        if _ARRAY_START.match(first):
            return self._array_items
        suffix = Path(self._source).suffix.lower()
        if first.startswith(b"{") or not first or suffix in JSON_SUFFIXES:
            return self._json_lines
        columns = _csv_header(first)[1]
        missing = [field.name for field in self._fields.values() if field.required and field.name not in columns]
        if not missing:
            for name in self._fields:
                if columns.count(name) > 1:
                    raise _invalid_line(1, f"the header names the column {name} more than once")
            return self._csv_rows
        if suffix in CSV_SUFFIXES:
            raise _invalid_line(1, f"the header names no column {' and no column '.join(missing)}")
        return self._plain_lines if self._plain_field else self._json_lines

    def _json_lines(self) -> Iterator[Record]:
        for number, line in self._numbered_lines():
            try:
                yield number, msgspec.json.decode(line) if line.strip() else None
            except UnicodeDecodeError as error:
                raise _invalid_line(number, NOT_UTF_8) from error
            except (msgspec.MsgspecError, RecursionError) as error:
                raise _invalid_line(number, str(error)) from error

    def _plain_lines(self) -> Iterator[Record]:
        for number, line in self._text_lines():
            yield number, {self._plain_field: line.strip()} if line.strip() else None

    def _array_items(self) -> Iterator[Record]:
        content = self._file.read(MAX_MESSAGE_BYTES + 1)
        if len(content) > MAX_MESSAGE_BYTES:
            raise _invalid_line(1, f"an array may have at most {MAX_MESSAGE_BYTES:,} bytes; write JSON lines instead")
        try:
            yield from enumerate(msgspec.json.decode(content, type=list[object]), start=1)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _invalid_line(1, str(error)) from error

    def _csv_rows(self) -> Iterator[Record]:
        """Yield the rows with their cells by column, without empty cells.

        Each line of the file has a record, so that the number of a record is that of its line. The value is None for
        the lines up to the header, and for the lines of a row after its first.
        """
        lines = self._text_lines()
        header_line, header = next((number, line) for number, line in lines if line.strip())
        yield from ((number, None) for number in range(1, header_line + 1))
        separator, names = _csv_header(header.strip().encode())
        rows = csv.reader((line for _, line in lines), delimiter=separator, strict=True)
        row_line = header_line + 1
        while (row := self._next_row(rows, header_line)) is not None:
            if len(row) > len(names):
                raise _invalid_line(row_line, f"it has {len(row)} cells, but the header has {len(names)}")
            yield row_line, {name: cell for name, cell in zip(names, row, strict=False) if cell.strip()} or None
            yield from ((number, None) for number in range(row_line + 1, header_line + rows.line_num + 1))
            row_line = header_line + rows.line_num + 1

    def _next_row(self, rows: Any, header_line: int) -> list[str] | None:
        """Return the next row of a CSV reader that began after the header, or None at the end."""
        try:
            return next(rows, None)
        except csv.Error as error:
            raise _invalid_line(header_line + rows.line_num, str(error)) from error

    def _text_lines(self) -> Iterator[tuple[int, str]]:
        for number, line in self._numbered_lines():
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise _invalid_line(number, NOT_UTF_8) from error

    def _numbered_lines(self) -> Iterator[tuple[int, bytes]]:
        for number, line in enumerate(iter(self._next_line, b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise _invalid_line(number, f"it has more than {MAX_LINE_BYTES:,} bytes")
            yield number, line

    def _next_line(self) -> bytes:
        """Return a line without a byte order mark, which a file joined from several has inside; empty at the end."""
        try:
            line = self._file.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise _unreadable(self._source, error) from error
        return b"\n" if line == BOM_UTF8 else line.removeprefix(BOM_UTF8)


def _csv_header(line: bytes) -> tuple[str, list[str]]:
    """Return the separator and the column names of a header: ``Jira ID`` is the field ``jira_id``."""
    text = line.decode(errors="replace")
    separator = max(",;\t", key=text.count)
    try:
        (cells,) = csv.reader([text], delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return separator, []
    return separator, [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in cells]


@contextmanager
def open_import(source: str, line_type: type[Line], *, plain_field: str | None = None) -> Iterator[ImportLines[Line]]:
    """Open an import file of any size, and check every line; ``-`` is stdin.

    The file is in UTF-8 or UTF-16, with or without a byte order mark. Raise ``unreadable_file``, ``invalid_line``, or
    ``disk_full`` if a pipe does not fit into a temporary file.
    """
    with ExitStack() as open_files:
        file: BinaryIO = sys.stdin.buffer if source == "-" else open_files.enter_context(_open(source))
        if not file.seekable():
            file = open_files.enter_context(_copy_to_file(file, source))
        start, head = file.tell(), file.read(HEAD_BYTES)
        file.seek(start + len(BOM_UTF8) if head.startswith(BOM_UTF8) else start)
        if encoding := _utf_16_encoding(head):
            file = open_files.enter_context(_copy_as_utf_8(file, source, encoding))
        yield ImportLines(file, source, line_type, plain_field)


def _utf_16_encoding(head: bytes) -> str | None:
    """Return the encoding of a file in UTF-16, or None for others.

    Without a byte order mark, two ASCII characters at the beginning show UTF-16: every second byte is zero. A single
    zero byte does not: in UTF-8 it is a stray character, which no title may contain.
    """
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    zeros = [index for index, byte in enumerate(head) if byte == 0]
    return "utf-16-be" if zeros == [0, 2] else "utf-16-le" if zeros == [1, 3] else None


def warn_of_ignored_fields(context: CommandContext, lines: ImportLines[Line]) -> None:
    """Print one warning that names the fields of the file that the import did not read."""
    if lines.unknown_fields:
        read, ignored = ", ".join(lines.field_names), ", ".join(lines.unknown_fields)
        if lines.has_more_unknown_fields:
            ignored += ", and others"
        context.printer.warn(f"The import reads {read}. It did not read these fields of the file: {ignored}.")


def _open(source: str) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _copy_to_file(file: BinaryIO, source: str) -> BinaryIO:
    """Copy a pipe or a terminal to a temporary file, because each iteration reads the lines again."""
    from shutil import copyfileobj

    return _copy(source, lambda copy: copyfileobj(file, copy))


def _copy_as_utf_8(file: BinaryIO, source: str, encoding: str) -> BinaryIO:
    """Copy a file in UTF-16 to a temporary file in UTF-8. Raise ``unreadable_file`` if it is not valid."""

    def write(copy: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        try:
            while characters := text.read(COPY_CHARACTERS):
                copy.write(characters.encode())
        finally:
            text.detach()

    return _copy(source, write)


def _copy(source: str, write: Callable[[BinaryIO], object]) -> BinaryIO:
    import tempfile

    try:
        copy = unnamed_file()
        write(copy)
        copy.flush()
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_full(Path(tempfile.gettempdir())) from error
        raise _unreadable(source, error) from error
    except UnicodeError as error:
        raise _unreadable(source, error) from error
    copy.seek(0)
    return copy


def _unreadable(source: str, error: OSError | ValueError) -> InvalidInput:
    return unreadable(source, error, hint="Name a file that you may read, or - for stdin.")


def _invalid_line(number: int, reason: str) -> InvalidInput:
    return InvalidInput(
        "invalid_line",
        f"Line {number} is not valid: {reason}.",
        hint="Nothing was imported. Fix that line and import the file again.",
        details={"line": number},
    )
