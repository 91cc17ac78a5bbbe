"""Files of JSON lines, as imports take them."""

import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from popug_cli.kernel.errors import InvalidInput

Shape = TypeVar("Shape")


def read_json_lines(source: str, shape: type[Shape]) -> list[Shape | None]:
    """A place for each line of a file (``-`` is stdin), None where the line is blank.

    Raises ``unreadable_file``, or ``invalid_line`` with the number of the first bad line.
    """
    decode = msgspec.json.Decoder(shape).decode
    parsed: list[Shape | None] = []
    for number, line in enumerate(_content(source).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            parsed.append(decode(line) if line.strip() else None)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(
                "invalid_line",
                f"Line {number} does not fit: {error}.",
                hint="Nothing was imported. Mend that line and import the file again.",
                details={"line": number},
            ) from error
    return parsed


def _content(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput(
            "unreadable_file", f"{source} cannot be read: {reason}.", hint="Name a file of JSON lines, or - for stdin."
        ) from error
