"""Read ``config.toml``: its text, its keys and the line of each."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from popug_cli.kernel import disk_errors
from popug_cli.kernel.errors import InvalidInput
from popug_cli.platform.files import read_regular_file

NOT_A_FILE = {
    errno.EINVAL: "a pipe or a device, not a file",
    errno.EISDIR: "a directory, not a file",
    errno.ELOOP: "a link that leads to itself",
    errno.ENOTDIR: "a link to a path below a file",
}

_TABLE = re.compile(r"\s*\[{1,2}([^\[\]]+)\]")
_ASSIGNMENT = re.compile(r"""\s*([A-Za-z0-9_."' \t-]+?)\s*=""")
_QUOTES_AND_BLANKS = str.maketrans("", "", "\"' \t")


def read_text(file: Path) -> str:
    """Return the text of the settings file without a byte order mark, or an empty text if there is none.

    Raise ``invalid_setting`` for anything but a file, such as a pipe or a loop of links, and for bytes that are not
    UTF-8, and ``read_only`` for a file that this account may not read.
    """
    try:
        content, _ = read_regular_file(file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno in NOT_A_FILE:
            if error.errno == errno.EINVAL and file.samefile(os.devnull):
                return ""
            raise _not_a_file(file, error) from error
        translated = disk_errors.from_os_error(error, str(file))
        raise error if translated is None else translated from error
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


def _not_a_file(file: Path, error: OSError) -> InvalidInput:
    import shlex

    return InvalidInput(
        "invalid_setting",
        f"{file} is {NOT_A_FILE[error.errno or 0]}.",
        hint=f"Put a file in its place, or run `mv {shlex.quote(str(file))} {shlex.quote(f'{file}.old')}` to use the"
        " defaults.",
        details={"file": str(file)},
    )


def parse(file: Path, text: str) -> dict[str, object]:
    """Return the values of a TOML text by their dotted keys; raise ``invalid_setting`` with the line of an error."""
    if not text:  # most homes have no settings file, and the import takes a millisecond
        return {}
    import tomllib

    try:
        return flatten(tomllib.loads(text))
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


def flatten(tables: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values of nested TOML tables by their dotted keys."""
    flat: dict[str, object] = {}
    for name, value in tables.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
