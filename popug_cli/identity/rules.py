"""Validation of usernames, addresses, roles, passwords and token lifetimes, and the lockout after failed logins."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import InvalidInput, NotAllowed
from popug_cli.kernel.text import BYTE_ORDER_MARK, did_you_mean
from popug_cli.messages.base import Role
from popug_cli.messages.principal import RESERVED_USERNAMES

MAX_EMAIL_CHARACTERS = 254
MAX_EMAIL_LOCAL_CHARACTERS = 64
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 1024
MIN_FORBIDDEN_NAME_CHARACTERS = 3
MIN_DISTINCTIVE_NAME_CHARACTERS = 5
MAX_TOKEN_LIFETIME = timedelta(days=366)
MAX_OWN_TOKEN_LIFETIME = timedelta(days=31)  # the longest that ``identity.session_hours`` allows a login to last
FAILURES_BEFORE_LOCKOUT = 5
FIRST_LOCKOUT_SECONDS = 1
MAX_LOCKOUT = timedelta(minutes=15)
FAILURE_RETENTION = timedelta(days=1)

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")


def lower_username(name: str) -> str:
    """Return a username in the form in which usernames are stored and looked up.

    Only ASCII names are lower-cased, because lower-casing can turn another character into an ASCII letter (U+212A).
    """
    return name.lower() if name.isascii() else name


def is_username(name: str) -> bool:
    """Return whether a user could have this name."""
    return _USERNAME.fullmatch(name) is not None and name not in RESERVED_USERNAMES


def parse_username(name: str) -> str:
    """Return the lower-cased username of a new user; raise ``invalid_username``."""
    lowered = lower_username(name)
    if not _USERNAME.fullmatch(lowered):
        raise InvalidInput(
            "invalid_username",
            f"{name!r} is not a valid username.",
            hint="Use 1 to 32 of the characters a-z 0-9 . _ - and begin with a letter or a digit.",
            details={"username": name},
        )
    if lowered in RESERVED_USERNAMES:
        raise InvalidInput(
            "invalid_username",
            f"The username {lowered} is reserved.",
            hint="Choose another.",
            details={"username": name},
        )
    return lowered


def parse_email(address: str) -> str:
    """Return the address if it is one bare ASCII address within the length limits; raise ``invalid_email``."""
    match = _EMAIL.fullmatch(address)
    if match is None or len(address) > MAX_EMAIL_CHARACTERS or len(match[1]) > MAX_EMAIL_LOCAL_CHARACTERS:
        raise InvalidInput(
            "invalid_email",
            f"{address!r} is not a valid e-mail address.",
            hint="Give one bare address such as polly@example.com, in ASCII.",
            details={"email": address},
        )
    return address


def password_digest(password_hash: str | None) -> str:
    """Return the text that events record about a password hash, so that a replaced hash is noticed.

    It is the SHA-256 of the hash, in hexadecimal. That reveals nothing about the password, because the hash contains a
    random salt of 128 bits, which is not published. Without a hash, it is ``none``.
    """
    return "none" if password_hash is None else sha256(password_hash.encode()).hexdigest()


def email_key(address: str) -> str:
    """Return the lower-cased address, which no two users share."""
    return address.lower()


def parse_role(role: str) -> Role:
    """Return the role of that name; raise ``invalid_role``."""
    try:
        return Role(role)
    except ValueError:
        raise InvalidInput(
            "invalid_role",
            f"There is no role called {role!r}.",
            hint=f"{did_you_mean(role, Role)}The roles are {', '.join(Role)}.",
            details={"role": role},
        ) from None


def normalize_password(password: str) -> str:
    """Return the password in Unicode NFKC, so that the keyboard's composition does not matter (NIST SP 800-63B).

    A byte order mark in front comes from a file or a pipe, and is not part of the password.
    """
    return unicodedata.normalize("NFKC", password.removeprefix(BYTE_ORDER_MARK))


def check_password(password: str, username: str, email: str) -> None:
    """Raise ``password_too_weak`` if a new password is too short, too long, or contains its owner's name or address."""
    lowered = normalize_password(password).lower()
    if len(lowered) < MIN_PASSWORD_CHARACTERS:
        raise _password_too_weak(f"The password has fewer than {MIN_PASSWORD_CHARACTERS} characters.")
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise _password_too_weak(f"The password has more than {MAX_PASSWORD_CHARACTERS} characters.")
    if email_key(email) in lowered or _contains_owner(lowered, username):
        raise _password_too_weak("The password contains the name or the address of its owner.")


def _contains_owner(password: str, name: str) -> bool:
    """Return whether a password contains the username.

    A short name counts only as a whole word (``seven`` contains ``eve`` by chance), or if little else is left.
    """
    if len(name) < MIN_FORBIDDEN_NAME_CHARACTERS or name not in password:
        return False
    if len(name) >= MIN_DISTINCTIVE_NAME_CHARACTERS or len(password.replace(name, "")) < MIN_PASSWORD_CHARACTERS:
        return True
    letter = r"[^\W\d_]"
    return re.search(rf"(?<!{letter}){re.escape(name)}(?!{letter})", password) is not None


def check_new_user(username: str, email: str, role: str, password: str | None) -> None:
    """Validate a new user without looking at existing ones.

    Raise ``invalid_username``, ``invalid_email``, ``invalid_role`` or ``password_too_weak``.
    """
    name, address = parse_username(username), parse_email(email)
    parse_role(role)
    if password is not None:
        check_password(password, name, address)


def _password_too_weak(sentence: str) -> InvalidInput:
    return InvalidInput(
        "password_too_weak",
        sentence,
        hint=f"Choose one of at least {MIN_PASSWORD_CHARACTERS} characters; four words are enough.",
    )


def check_lifetime(ttl_seconds: int) -> timedelta:
    """Return the lifetime of a machine token; raise ``invalid_ttl`` below 1 second or above 366 days."""
    if not 1 <= ttl_seconds <= MAX_TOKEN_LIFETIME.total_seconds():
        raise InvalidInput(
            "invalid_ttl",
            f"The lifetime of a token must be at least 1 second and at most {MAX_TOKEN_LIFETIME.days} days.",
            hint="Give a lifetime such as --ttl 12h or --ttl 365d.",
            details={"ttl_seconds": ttl_seconds},
        )
    return timedelta(seconds=ttl_seconds)


def check_own_lifetime(lifetime: timedelta) -> None:
    """Raise ``forbidden`` if users would issue a token to themselves that outlives any login of theirs."""
    if lifetime > MAX_OWN_TOKEN_LIFETIME:
        raise NotAllowed(
            "forbidden",
            f"A token for yourself may live at most {MAX_OWN_TOKEN_LIFETIME.days} days, as long as a login can.",
            hint="Give a shorter --ttl or a --scope, issue it for another user, or ask another admin to issue it.",
            details={"max_ttl_seconds": int(MAX_OWN_TOKEN_LIFETIME.total_seconds())},
        )


def lockout_after(failures: int) -> timedelta:
    """Return the lockout after that many consecutive failed logins: none up to five, then 1 s.

    Each further failure doubles it, up to ``MAX_LOCKOUT``.
    """
    if failures <= FAILURES_BEFORE_LOCKOUT:
        return timedelta(0)
    max_seconds = int(MAX_LOCKOUT.total_seconds())
    counted_failures = failures - FAILURES_BEFORE_LOCKOUT
    return compute_backoff(counted_failures, first_seconds=FIRST_LOCKOUT_SECONDS, max_seconds=max_seconds)


def is_locked(locked_until: datetime, now: datetime) -> bool:
    """Return whether a lockout is in force. One that is longer than ``MAX_LOCKOUT`` is not: the clock was set back."""
    return now < locked_until <= now + MAX_LOCKOUT


def forget_lockouts_before(now: datetime) -> str:
    """Return the timestamp before which a lockout must have ended to be forgotten, with its failures."""
    return to_rfc3339(now - FAILURE_RETENTION)


def name_roles(roles: Iterable[Role]) -> str:
    """Format roles for a sentence: ``an accountant or an admin``."""
    wanted = frozenset(roles)
    names = [f"{'an' if role[0] in 'aeiou' else 'a'} {role}" for role in reversed(Role) if role in wanted]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
