"""Sort more texts than fit into memory, by an external merge sort."""

import heapq
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.platform.posix_errors import NO_SPACE
from popug_cli.platform.temporary import unnamed_file

MAX_TEXTS_IN_MEMORY = 50_000
Item = tuple[str, int, str]  # key, number, text


class DiskSorter:
    """Texts with keys. Iteration yields them by key, and those with the same key in the order of ``add``."""

    def __init__(self, open_files: ExitStack) -> None:
        self._open_files = open_files
        self._runs: list[BinaryIO] = []
        self._in_memory: list[Item] = []
        self._count = 0

    def add(self, key: str, text: str) -> None:
        """Add a text. Raise ``disk_full`` if the temporary directory has no space for it."""
        self._in_memory.append((key, self._count, text))
        self._count += 1
        if len(self._in_memory) == MAX_TEXTS_IN_MEMORY:
            self._write_run()

    def __iter__(self) -> Iterator[str]:
        self._in_memory.sort()
        for _, _, text in heapq.merge(*map(_read, self._runs), self._in_memory):
            yield text

    def _write_run(self) -> None:
        run = unnamed_file()
        self._open_files.callback(_close, run)
        try:
            run.writelines(json.dumps(item).encode() + b"\n" for item in sorted(self._in_memory))
            run.flush()
        except OSError as error:
            if error.errno in NO_SPACE:
                raise disk_full(Path(tempfile.gettempdir())) from error
            raise
        self._runs.append(run)
        self._in_memory.clear()


def _close(run: BinaryIO) -> None:
    """Close a temporary file. On a full disk closing fails, too, but the file is deleted anyway."""
    with suppress(OSError):
        run.close()


def _read(run: BinaryIO) -> Iterator[Item]:
    run.seek(0)
    for line in run:
        key, number, text = json.loads(line)
        yield key, number, text


@contextmanager
def sort_on_disk() -> Iterator[DiskSorter]:
    """Yield a sorter. It writes unnamed temporary files once it holds ``MAX_TEXTS_IN_MEMORY`` texts."""
    with ExitStack() as open_files:
        yield DiskSorter(open_files)
