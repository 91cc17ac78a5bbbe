"""What a name, an address, a role, a password and a lifetime may be, and how long a guesser has to wait."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import did_you_mean
from popug_cli.messages.base import Role
from popug_cli.messages.principal import RESERVED_USERNAMES

MAX_EMAIL_CHARACTERS = 254
MAX_EMAIL_LOCAL_CHARACTERS = 64
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 1024
MIN_NAME_CHARACTERS = 3
MIN_DISTINCTIVE_NAME_LENGTH = 5
MAX_TOKEN_LIFETIME = timedelta(days=366)
FREE_FAILURES = 5
FIRST_LOCKOUT_SECONDS = 1
MAX_LOCKOUT = timedelta(minutes=15)
FORGET_FAILURES_AFTER = timedelta(days=1)

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")


def lower_username(name: str) -> str:
    """A name as it is looked up; only ASCII letters are lowered, so that no other letter becomes one of them."""
    return name.lower() if name.isascii() else name


def is_username(name: str) -> bool:
    """Whether somebody could have this name."""
    return _USERNAME.fullmatch(name) is not None and name not in RESERVED_USERNAMES


def parse_username(name: str) -> str:
    """The username of somebody new, lower-cased; raises ``invalid_username``."""
    lowered = lower_username(name)
    if not _USERNAME.fullmatch(lowered):
        raise InvalidInput(
            "invalid_username",
            f"{name!r} is no username.",
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
    """The address, which must be exactly one and bare; raises ``invalid_email``."""
    match = _EMAIL.fullmatch(address)
    if match is None or len(address) > MAX_EMAIL_CHARACTERS or len(match[1]) > MAX_EMAIL_LOCAL_CHARACTERS:
        raise InvalidInput(
            "invalid_email",
            f"{address!r} is no single e-mail address.",
            hint="Give one bare address such as polly@example.com, in ASCII.",
            details={"email": address},
        )
    return address


def email_key(address: str) -> str:
    """By which an address is unique."""
    return address.lower()


def parse_role(role: str) -> Role:
    """The role of that name; raises ``invalid_role``."""
    try:
        return Role(role)
    except ValueError:
        raise InvalidInput(
            "invalid_role",
            f"There is no role called {role!r}.",
            hint=f"{did_you_mean(role, Role)}The roles are {', '.join(Role)}.",
            details={"role": role},
        ) from None


def normal_password(password: str) -> str:
    """A password in one spelling, whatever the keyboard made of it (NFKC, as NIST SP 800-63B advises)."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, username: str, email: str) -> None:
    """Raise ``password_too_weak`` where a new password is too short, too long, or gives its owner away."""
    lowered = normal_password(password).lower()
    if len(lowered) < MIN_PASSWORD_CHARACTERS:
        raise _too_weak(f"The password has fewer than {MIN_PASSWORD_CHARACTERS} characters.")
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise _too_weak(f"The password has more than {MAX_PASSWORD_CHARACTERS} characters.")
    if email_key(email) in lowered or _contains_owner(lowered, username):
        raise _too_weak("The password contains the name or the address of its owner.")


def _contains_owner(password: str, name: str) -> bool:
    """Whether a name stands in a password; a short one must stand as a word, for ``eve`` is in ``seven`` by chance."""
    if len(name) < MIN_NAME_CHARACTERS or name not in password:
        return False
    if len(name) >= MIN_DISTINCTIVE_NAME_LENGTH or len(password.replace(name, "")) < MIN_PASSWORD_CHARACTERS:
        return True
    letter = r"[^\W\d_]"
    return re.search(rf"(?<!{letter}){re.escape(name)}(?!{letter})", password) is not None


def check_new_user(username: str, email: str, role: str, password: str | None) -> None:
    """Raise what is wrong with somebody new, whoever is there already."""
    name, address = parse_username(username), parse_email(email)
    parse_role(role)
    if password is not None:
        check_password(password, name, address)


def _too_weak(sentence: str) -> InvalidInput:
    return InvalidInput(
        "password_too_weak",
        sentence,
        hint=f"Choose one of at least {MIN_PASSWORD_CHARACTERS} characters: four words do.",
    )


def check_lifetime(ttl_seconds: int) -> timedelta:
    """The lifetime of a machine's token; raises ``invalid_ttl`` for none, or more than 366 days."""
    if not 1 <= ttl_seconds <= MAX_TOKEN_LIFETIME.total_seconds():
        raise InvalidInput(
            "invalid_ttl",
            f"A token lives for a second at least and {MAX_TOKEN_LIFETIME.days} days at most.",
            hint="Give a lifetime such as --ttl 12h or --ttl 365d.",
            details={"ttl_seconds": ttl_seconds},
        )
    return timedelta(seconds=ttl_seconds)


def lockout_after(failures: int) -> timedelta:
    """Return how long an account is locked after that many failed logins in a row: five are free, then it doubles."""
    if failures <= FREE_FAILURES:
        return timedelta(0)
    longest = int(MAX_LOCKOUT.total_seconds())
    return compute_backoff(failures - FREE_FAILURES, first_seconds=FIRST_LOCKOUT_SECONDS, max_seconds=longest)


def is_locked(locked_until: datetime, now: datetime) -> bool:
    """Whether an account has to wait; a lock longer than any was made before the clock was set back."""
    return now < locked_until <= now + MAX_LOCKOUT


def expired_before(now: datetime) -> str:
    """Locks that ended before this instant (a stamp) are as good as none."""
    return to_rfc3339(now - FORGET_FAILURES_AFTER)


def name_roles(roles: Iterable[Role]) -> str:
    """Roles in a sentence: ``an accountant or an admin``."""
    wanted = frozenset(roles)
    names = [f"{'an' if role[0] in 'aeiou' else 'a'} {role}" for role in reversed(Role) if role in wanted]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
