"""The greatest log positions that this account has seen of each company, stored next to the session file."""

import os

from popug_cli.cli.state import session_file
from popug_cli.kernel import positions
from popug_cli.kernel.home import Home
from popug_cli.kernel.positions import KnownPositions, Positions
from popug_cli.platform.accounts import require_own_place
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY, locked_directory, read_regular_file, replace_file

MAX_COMPANIES = 100


class PositionsFile(KnownPositions):
    """The positions of one company, which is a home or the address of a server; read when they are first needed."""

    def __init__(self, company: Home | str) -> None:
        super().__init__()
        self._key = company if isinstance(company, str) else os.path.realpath(company.root)
        file = session_file.known_path()
        self._path = file.with_suffix(".positions.json") if file else None
        self._is_read = False

    def read(self) -> Positions:
        """Return the greatest positions, by source: those of the file, and those kept since."""
        if not self._is_read:
            self._is_read = True
            super().keep(self._stored().get(self._key, {}))
        return super().read()

    def keep(self, positions: Positions) -> None:
        """Add newer positions, also to the file; an error of the file is ignored, because other clients have none."""
        before = self.read()
        super().keep(positions)
        if self._path is None or super().read() == before:
            return
        try:
            require_own_place(self._path)
            self._path.parent.mkdir(mode=OWNER_ONLY_DIRECTORY, parents=True, exist_ok=True)
            with locked_directory(self._path.parent):
                self._store()
        except OSError:
            return

    def _store(self) -> None:
        """Write the file: the companies used last at the end, at most ``MAX_COMPANIES``."""
        import json

        assert self._path is not None
        stored = self._stored()
        super().keep(positions.merge(stored.pop(self._key, {}), super().read()))
        newest = [*stored.items(), (self._key, super().read())][-MAX_COMPANIES:]
        replace_file(self._path, json.dumps({key: positions.text_of(each) for key, each in newest}, indent=1).encode())

    def _stored(self) -> dict[str, Positions]:
        if self._path is None:
            return {}
        import json

        try:
            content, _ = read_regular_file(self._path)  # reading a pipe would block
            entries = json.loads(content)
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(entries, dict):
            return {}
        return {key: positions.parse(text) for key, text in entries.items() if isinstance(text, str)}
