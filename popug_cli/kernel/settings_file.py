"""Read ``config.toml``: its text, its keys and the line of each."""

import re
from collections.abc import Mapping
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput

_TABLE = re.compile(r"\s*\[{1,2}([^\[\]]+)\]")
_ASSIGNMENT = re.compile(r"""\s*([A-Za-z0-9_."' \t-]+?)\s*=""")
_QUOTES_AND_BLANKS = str.maketrans("", "", "\"' \t")


def read_text(file: Path) -> str:
    """Return the text of the settings file without a byte order mark, or an empty text if there is none.

    Raise ``invalid_setting`` for a pipe and for bytes that are not UTF-8.
    """
    if file.is_fifo():
        raise InvalidInput("invalid_setting", f"{file} is a pipe, not a file.", hint="Replace it with a file.")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ""
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(
            "invalid_setting",
            f"{file} is not UTF-8: byte 0x{content[error.start]:02x} in line {line}.",
            hint="Save it as UTF-8, or move it away to use the defaults.",
            details={"file": str(file), "line": line},
        ) from error


def parse(file: Path, text: str) -> dict[str, object]:
    """Return the values of a TOML text by their dotted keys; raise ``invalid_setting`` with the line of an error."""
    import tomllib

    try:
        return _flatten(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(
            "invalid_setting",
            f"{file} is not valid TOML: {error}.",
            hint=f"Correct that line, or run `mv {file} {file}.old` to use the defaults.",
            details={"file": str(file)},
        ) from error


def line_of(key: str, text: str) -> int | None:
    """Return the number of the line that assigns a dotted key in a TOML text, or None if it is not found."""
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _TABLE.match(line):
            table = header[1].translate(_QUOTES_AND_BLANKS) + "."
            if table == key + ".":
                return number
        elif assignment := _ASSIGNMENT.match(line):
            assigned = table + assignment[1].translate(_QUOTES_AND_BLANKS)
            if key == assigned or key.startswith(assigned + "."):
                return number
    return None


def _flatten(tables: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tables.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
