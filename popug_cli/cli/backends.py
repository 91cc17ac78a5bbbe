"""The backends of one command: the home in this process, and the server that serves it."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from popug_cli.cli.output.screen import Screen
from popug_cli.cli.state import session_file
from popug_cli.cli.state.positions_file import PositionsFile
from popug_cli.kernel import leftovers
from popug_cli.kernel.errors import NotAuthenticated, NotFound, PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.jwt_payload import read_unverified_claim
from popug_cli.messages.base import DECLARATIONS, Access, Message

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend
    from popug_cli.client.remote_backend import RemoteBackend
    from popug_cli.messages.backend import Backend

Answer = TypeVar("Answer")


class Backends:
    """Perform the messages of one command, in this process or on a server.

    ``find_home`` returns the home or raises ``no_home_directory``: no home is needed if a server performs all messages.
    ``server`` is the value of ``--server``. A program that runs commands itself, such as the demo, passes ``token`` and
    ``given_backend``, an open backend that performs all messages.
    """

    def __init__(
        self,
        find_home: Callable[[], Home],
        screen: Screen,
        *,
        server: str | None = None,
        token: str | None = None,
        given_backend: Any = None,
    ) -> None:
        self._find_home = find_home
        self._screen = screen
        self._server_option = server
        self._token = token
        self._given_backend = given_backend
        self._has_cleared_leftovers = False

    @cached_property
    def local(self) -> "LocalBackend":
        """The home in this process; it performs the operator's messages and, without a server, all others."""
        from popug_cli.app.local_backend import LocalBackend

        if self._given_backend:
            return cast("LocalBackend", self._given_backend)
        home = self._find_home()
        return LocalBackend(
            home, warn=self._screen.printer.warn, progress=self._screen.progress, positions=PositionsFile(home)
        )

    @cached_property
    def remote(self) -> "RemoteBackend | None":
        """The server named by the user, else the server that holds the home, else None; None with ``given_backend``."""
        from popug_cli.client.discovery import connect_to_url, find_local_server

        if self._given_backend:
            return None
        warn, progress = self._screen.printer.warn, self._screen.progress
        if url := self.server_url:
            remote = connect_to_url(url, warn, progress)
            remote.positions = PositionsFile(remote.address.url)
            return remote
        home = self._find_home()
        local_server = find_local_server(home, warn, progress, on_distrust=self._warn_unless_json)
        if local_server is not None:
            local_server.positions = PositionsFile(home)
        return local_server

    @property
    def active(self) -> "Backend":
        """The backend that performs all messages except the operator's."""
        return self.remote or self.local

    @property
    def server_url(self) -> str | None:
        """The value of ``--server`` or ``POPUG_SERVER``, without white space around it."""
        return (self._server_option or os.environ.get("POPUG_SERVER", "")).strip() or None

    @property
    def session_key(self) -> Home | str:
        """The key of the login in the session file: the home, or the address of the server named by the user."""
        remote = self.remote if self.server_url else None
        return remote.address.url if remote else self._find_home()

    @property
    def token(self) -> str | None:
        """The token passed by a program, else ``POPUG_TOKEN``, else the one in the session file, else None."""
        return self._token or session_file.token_for(self.session_key)

    @property
    def has_scoped_token(self) -> bool:
        """Whether the token seems to have a scope, which permits a few commands only; False if it cannot be read."""
        with suppress(PopugError, ValueError):
            return read_unverified_claim(self.token or "", "scope") != "None"
        return False

    def perform(self, message: Message[Answer], *, token: str | None = None) -> Answer:
        """Perform a message with a token, by default that of the user who is logged in.

        An operator's message is performed in this process, without a token. The hint of ``user_not_found`` suggests
        similar names, unless the user named a server; the hint to log in repeats the ``--server`` option.
        """
        self._clear_session_leftovers()
        if DECLARATIONS[type(message)].access is Access.OPERATOR:
            self._warn_about_server()
            return self.local.perform(message)
        try:
            return self.active.perform(message, token or self.token)
        except NotFound as error:
            if error.code != "user_not_found" or self.server_url:
                raise
            from popug_cli.cli.help.suggestions import with_username_suggestions

            raise with_username_suggestions(error, self._find_home(), token or self.token) from error
        except NotAuthenticated as error:
            error.hint = self._hint_for_token(self._hint_with_server(error.hint))
            raise

    def close(self) -> None:
        """Close the home's database; the last process to do so checkpoints its write-ahead log."""
        local = vars(self).get("local")
        if local is not None and not self._given_backend:
            local.close()

    def forget_remote(self) -> None:
        """Look for the server again when it is needed next: another process may hold the home by then."""
        vars(self).pop("remote", None)

    def _clear_session_leftovers(self) -> None:
        """Remove what killed logins left next to the session file, and name it in a warning; once for each command."""
        if self._token or self._has_cleared_leftovers:
            return
        self._has_cleared_leftovers = True
        for file in session_file.clear_leftovers():
            self._screen.printer.warn(leftovers.removed(file))

    def _hint_with_server(self, hint: str) -> str:
        """Return a hint to log in, with the ``--server`` option that the user gave."""
        server = self._server_option
        return hint.replace("popug login NAME", f"popug login NAME --server {server}") if server else hint

    def _hint_for_token(self, hint: str) -> str:
        """Return a hint to log in that works while ``POPUG_TOKEN`` is set, which takes precedence over a login."""
        if "popug login" not in hint or self._token or not session_file.token_of_environment():
            return hint
        return (
            "POPUG_TOKEN is set and takes precedence over a login. Set it to a token alone, as"
            f" `popug login NAME --print-token` prints it, or run `unset POPUG_TOKEN` first. {hint}"
        )

    def _warn_about_server(self) -> None:
        """Warn that an operator's command ignores ``--server``: it works on the home's own files."""
        if self._server_option:
            root = self._find_home().root
            self._warn_unless_json(f"This works on the home {root} of this machine, never over a server.")

    def _warn_unless_json(self, sentence: str) -> None:
        """Print a warning, except with ``--json``, whose stderr holds only the error."""
        if not self._screen.as_json:
            self._screen.printer.warn(sentence)
