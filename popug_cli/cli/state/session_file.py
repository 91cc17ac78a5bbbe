"""The session file: one token for each home or server, and for each user a proof of an earlier login on this device.

Only its owner can read it. Each change reads, edits and replaces the file under a lock on the directory, so that no
parallel login is lost.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.kernel.errors import NotAuthenticated, Unavailable
from popug_cli.kernel.home import Home, no_home_directory, user_directory
from popug_cli.kernel.text import BYTE_ORDER_MARK
from popug_cli.platform.accounts import ForeignOwnerError, describe_account, require_own_place
from popug_cli.platform.files import (
    exposure_of,
    locked_directory,
    make_directory,
    read_regular_file,
    replace_file,
    reserve_replacement,
    resolve_replaceable,
)
from popug_cli.platform.posix_errors import NO_SPACE
from popug_cli.platform.temporary import remove_dead_files

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
            require_own_place(file)
            make_directory(file.parent)
            replace = stack.enter_context(reserve_replacement(file, size_bytes))

        def save(token: str) -> None:
            with _locked():
                replace(_serialize(_read() | {_key(company): token}))

        yield save


def device_token_for(company: Home | str, username: str) -> str | None:
    """Return the proof that this device has logged in as the user before, or None; raise the errors of ``check``."""
    return _read().get(_device_key(company, username.lower()))


def remember_device(company: Home | str, username: str, device_token: str) -> None:
    """Store the proof that this device has logged in as the user.

    Raise ``disk_full``, ``read_only`` and the errors of ``check``.
    """
    with _locked() as file:
        replace_file(file, _serialize(_read() | {_device_key(company, username): device_token}))


def forget(company: Home | str) -> None:
    """Remove the token of a home or server. Raise ``disk_full``, ``read_only`` and the errors of ``check``."""
    if _key(company) not in _read():
        return
    with _locked() as file:
        tokens = _read()
        tokens.pop(_key(company), None)
        replace_file(file, _serialize(tokens))


def check() -> None:
    """Raise ``insecure_file`` if others can read the file, ``not_logged_in`` if it is damaged or cannot be read.

    Raise ``no_home_directory`` if there is no place for the file.
    """
    path()
    _read()


def move_damaged_file() -> Path | None:
    """Move a damaged session file aside and return its new path; None if the file is not damaged.

    Raise ``insecure_file``, ``not_logged_in`` if the file cannot be read, or ``read_only``.
    """
    if not _is_damaged():
        return None
    with _locked() as file:
        if not _is_damaged():  # a parallel login has moved it
            return None
        damaged_file = resolve_replaceable(file.with_suffix(".damaged.json"))
        file.replace(damaged_file)
        return damaged_file


def _is_damaged() -> bool:
    try:
        _read()
    except NotAuthenticated as error:
        if "damaged" not in error.details:
            raise
        return True
    return False


def clear_leftovers() -> list[Path]:
    """Remove the temporary files with tokens that killed processes left next to the session file; return them."""
    file = known_path()
    try:
        file = resolve_replaceable(file) if file else None
    except OSError:
        return []
    if file is None:
        return []
    return remove_dead_files(file.parent, file)


def path() -> Path:
    """Return the path: ``POPUG_SESSION``, else session.json in the user's configuration directory.

    Raise ``no_home_directory``.
    """
    file = known_path()
    if file is None:
        raise no_home_directory("Name a file for your logins, such as `export POPUG_SESSION=/var/tmp/session.json`.")
    return file


def known_path() -> Path | None:
    """Return the path as ``path`` does, or None if this account has no home directory."""
    if os.environ.get("POPUG_SESSION"):
        return Path(os.environ["POPUG_SESSION"]).absolute()
    from platformdirs import user_config_path

    directory = user_directory(user_config_path)
    return None if directory is None else directory / "session.json"


def _key(company: Home | str) -> str:
    return company if isinstance(company, str) else os.path.realpath(company.root)


def _device_key(company: Home | str, username: str) -> str:
    """Return the key of a device token. It is neither a path nor a URL, so it never equals the key of a login."""
    return f"device {username} {_key(company)}"


def _read() -> dict[str, str]:
    """Return the tokens by key; an empty dict if there is no file. Raise the errors of ``check``."""
    file = known_path()
    if file is None:
        return {}
    try:
        content, status = read_regular_file(resolve_replaceable(file))
    except FileNotFoundError:
        return {}
    except ForeignOwnerError as error:
        raise _foreign(file, error) from error
    except OSError as error:
        raise NotAuthenticated(
            "not_logged_in",
            f"The session file {file} cannot be read: {error.strerror}.",
            hint="Fix it, or name another file with POPUG_SESSION.",
            details={"path": str(file)},
        ) from error
    if exposure_of(status, os.geteuid()):
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


def _foreign(file: Path, error: ForeignOwnerError) -> NotAuthenticated:
    owner, account = describe_account(error.owner), describe_account(os.geteuid())
    return NotAuthenticated(
        "insecure_file",
        f"The session file {file} belongs to {owner}, and this command runs as {account}.",
        hint="Name a file of your own with POPUG_SESSION, or run popug as that account.",
        details={"path": str(file), "owner": error.owner},
    )


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
def _locked() -> Iterator[Path]:
    """Yield the path of the session file, with links resolved, under the lock that all changes take."""
    with _translate_errors(path()):
        file = resolve_replaceable(path())
        with locked_directory(file.parent):
            yield file


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
