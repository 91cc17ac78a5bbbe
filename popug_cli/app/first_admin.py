"""What may be asked before there is a company: whether an answer about its first admin would do."""

from popug_cli.identity import rules
from popug_cli.kernel.calendar import load_zone

MIN_PASSWORD_CHARACTERS = rules.MIN_PASSWORD_CHARACTERS


def check_username(name: str) -> None:
    """Raises ``invalid_username``."""
    rules.parse_username(name)


def check_email(address: str) -> None:
    """Raises ``invalid_email``."""
    rules.parse_email(address)


def check_time_zone(name: str) -> None:
    """Raises ``invalid_time_zone``."""
    load_zone(name)


def check_password(password: str, username: str, email: str) -> None:
    """Raises ``password_too_weak``."""
    rules.check_password(password, username, email)
