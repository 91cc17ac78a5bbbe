"""The session file: one token for each home or server. Only its owner can read it."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.kernel.errors import NotAuthenticated, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.text import BYTE_ORDER_MARK
from popug_cli.platform.files import make_directory, replace_file, reserve_replacement
from popug_cli.platform.posix_errors import NO_SPACE

RESERVED_BYTES = 8192  # a token of up to 4,096 characters, and the path of its home


def token_for(company: Home | str) -> str | None:
    """Return ``POPUG_TOKEN``, else the token in the session file, else None.

    Raise ``insecure_file`` if others can read the file, ``not_logged_in`` if it is damaged or cannot be read.
    """
    return token_of_environment() or _read().get(_key(company))


def token_of_environment() -> str | None:
    """Return the token in ``POPUG_TOKEN``, or None if there is none.

    A byte order mark, quotes and all that follows a line break or a space are not part of a token; files, pipes and
    ``popug token issue`` add them.
    """
    words = os.environ.get("POPUG_TOKEN", "").removeprefix(BYTE_ORDER_MARK).split()
    return words[0].strip("\"'") or None if words else None


@contextmanager
def reserve(company: Home | str) -> Iterator[Callable[[str], None]]:
    """Reserve disk space for the token of a home or server; yield a function that stores the token.

    The space is reserved before the token is requested, so that on a full disk no token is issued. Both steps raise
    ``disk_full`` or ``read_only``, and the errors of ``check``.
    """
    file = path()
    size_bytes = len(_serialize(_read())) + RESERVED_BYTES
    with ExitStack() as stack:
        with _translate_errors(file):
            make_directory(file.parent)
            replace = stack.enter_context(reserve_replacement(file, size_bytes))

        def save(token: str) -> None:
            with _translate_errors(file):
                replace(_serialize(_read() | {_key(company): token}))

        yield save


def forget(company: Home | str) -> None:
    """Remove the token of a home or server. Raise ``disk_full``, ``read_only`` and the errors of ``check``."""
    tokens = _read()
    if tokens.pop(_key(company), None) is not None:
        with _translate_errors(path()):
            replace_file(path(), _serialize(tokens))


def check() -> None:
    """Raise ``insecure_file`` if others can read the file, ``not_logged_in`` if it is damaged or cannot be read."""
    _read()


def move_damaged_file() -> Path | None:
    """Move a damaged session file aside and return its new path; None if the file is not damaged.

    Raise ``insecure_file``, or ``not_logged_in`` if the file cannot be read.
    """
    try:
        _read()
    except NotAuthenticated as error:
        if "damaged" not in error.details:
            raise
        damaged_file = path().with_suffix(".damaged.json")
        path().replace(damaged_file)
        return damaged_file
    return None


def path() -> Path:
    """Return the path: ``POPUG_SESSION``, else session.json in the user's configuration directory."""
    if os.environ.get("POPUG_SESSION"):
        return Path(os.environ["POPUG_SESSION"]).absolute()
    from platformdirs import user_config_path

    return user_config_path("popug", appauthor=False) / "session.json"


def _key(company: Home | str) -> str:
    return company if isinstance(company, str) else os.path.realpath(company.root)


def _read() -> dict[str, str]:
    """Return the tokens by home or server; none if there is no file. Raise the errors of ``check``."""
    file = path()
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise NotAuthenticated(
            "not_logged_in",
            f"The session file {file} cannot be read: {error.strerror}.",
            hint="Fix it, or name another file with POPUG_SESSION.",
            details={"path": str(file)},
        ) from error
    if mode & 0o077:
        raise NotAuthenticated(
            "insecure_file",
            f"Others can read the session file {file}.",
            hint=f"Run `chmod 600 {file}`, then log in again if it may have been read.",
            details={"path": str(file)},
        )
    tokens = _parse(content)
    if tokens is None:
        raise NotAuthenticated(
            "not_logged_in",
            f"The session file {file} is damaged.",
            hint="Run `popug login NAME`, which moves it aside and creates a new one.",
            details={"damaged": str(file)},
        )
    return tokens


def _parse(content: bytes) -> dict[str, str] | None:
    """Parse the tokens; None if the file is damaged."""
    try:
        return msgspec.json.decode(content, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _parse_non_utf8(content)


def _parse_non_utf8(content: bytes) -> dict[str, str] | None:
    """Parse tokens of homes whose path is not UTF-8. Only Python's own json accepts them; it is slower to load."""
    import json

    try:
        tokens = json.loads(content)
    except (ValueError, RecursionError):
        return None
    is_valid = isinstance(tokens, dict) and all(isinstance(token, str) for token in tokens.values())
    return tokens if is_valid else None


def _serialize(tokens: dict[str, str]) -> bytes:
    import json

    return json.dumps(tokens, indent=1).encode()


@contextmanager
def _translate_errors(file: Path) -> Iterator[None]:
    """Turn an ``OSError`` into ``disk_full`` or ``read_only``."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_full(file.parent) from error
        raise Unavailable(
            "read_only",
            f"The session file {file} cannot be written: {error.strerror}.",
            hint="Name another file with POPUG_SESSION, or log in with --print-token and set POPUG_TOKEN.",
            details={"path": str(file)},
        ) from error
