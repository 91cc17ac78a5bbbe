"""Make every generated file: the data of help and completion, the manual page, schemas, tables and the picture.

python -m tests.generate              write ``surface.json``, ``popug.1``, all schemas, tables and the picture
python -m tests.generate --check      write nothing; print the files that differ, and exit with 1 if there is one
python -m tests.generate --release    also freeze the schemas of all events: from then on a change is a new version
python -m tests.generate --picture    also draw the picture if it shows the session already; each drawing differs
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from popug_cli.cli.commands.start import man
from popug_cli.cli.help import surface
from tests.generate import database_schema, picture, readme, schemas
from tests.generate.surface import document


def made(*, draws: bool) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield each generated file, and the function that returns its text; a later one may need an earlier one."""
    yield Path(surface.FILE), document
    yield man.PAGE, man.roff
    for page in (readme.COMMANDS, readme.OPERATING):
        yield page, partial(readme.renewed, page)
    yield from schemas.made()
    yield database_schema.FILE, database_schema.document
    if draws or not picture.is_current():
        yield picture.PICTURE, picture.draw


def main(arguments: list[str] | None = None) -> int:
    """Write the files that differ from the program, or only print them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--picture", action="store_true")
    chosen = parser.parse_args(arguments)
    differing = [file for file, make in made(draws=chosen.picture) if _renew(file, make, writes=not chosen.check)]
    differing += schemas.drop_unreleased(deletes=not chosen.check)
    if chosen.release and not chosen.check:
        schemas.release()
    for file in differing:
        sys.stdout.write(f"{file}\n")
    return 1 if chosen.check and differing else 0


def _renew(file: Path, make: Callable[[], str], *, writes: bool) -> bool:
    """Return whether the file differed; write it if that is wanted."""
    text = make()
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    if writes:
        file.write_text(text, encoding="utf-8")
        surface.surface.cache_clear()
    return True


if __name__ == "__main__":
    sys.exit(main())
