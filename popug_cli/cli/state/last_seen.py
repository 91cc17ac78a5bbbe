"""The last event of a company's log that each user has seen, stored next to the session file."""

import json
import os
from datetime import datetime

from popug_cli.cli.state import session_file
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.home import Home
from popug_cli.kernel.jwt_payload import read_unverified_claim
from popug_cli.platform.accounts import require_own_place
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY, locked_directory, read_regular_file, replace_file

SeenPosition = tuple[int, datetime]


class LastSeen:
    """The last event that the owner of a token has seen. ``company`` is a home, or the address of a server."""

    def __init__(self, company: Home | str, token: str) -> None:
        company_key = company if isinstance(company, str) else os.path.realpath(company.root)
        self._key = f"{company_key} {_user_id_of(token)}"
        file = session_file.known_path()
        self._path = file.with_suffix(".looked.json") if file else None
        self._entries = self._read()

    def last(self) -> SeenPosition | None:
        """Return the log position seen last, and when; None if the user has not looked yet."""
        try:
            sequence, at = self._entries[self._key]
            return int(sequence), from_rfc3339(at)
        except (KeyError, TypeError, ValueError):
            return None

    def remember(self, sequence: int, now: datetime) -> None:
        """Store the log position seen; ignore an error, because the position is only a convenience."""
        if self._path is None:
            return
        try:
            require_own_place(self._path)
            self._path.parent.mkdir(mode=OWNER_ONLY_DIRECTORY, parents=True, exist_ok=True)
            with locked_directory(self._path.parent):
                entries = {**self._read(), self._key: (sequence, to_rfc3339(now))}
                replace_file(self._path, json.dumps(entries, indent=1).encode())
        except OSError:
            return

    def _read(self) -> dict[str, tuple[int, str]]:
        if self._path is None:
            return {}
        try:
            content, _ = read_regular_file(self._path)  # reading a pipe would block
            entries = json.loads(content)
        except (OSError, ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}


def _user_id_of(token: str) -> str:
    """Return the user id in a token, without verification; empty if there is none."""
    try:
        return read_unverified_claim(token, "sub")
    except ValueError:
        return ""
