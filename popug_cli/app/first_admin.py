"""Validate the fields of the first admin before a company exists."""

from popug_cli.identity import rules
from popug_cli.kernel.calendar import load_zone

MIN_PASSWORD_CHARACTERS = rules.MIN_PASSWORD_CHARACTERS


def check_username(name: str) -> None:
    """Raise ``invalid_username`` if the name is not valid."""
    rules.parse_username(name)


def check_email(address: str) -> None:
    """Raise ``invalid_email`` if the address is not valid."""
    rules.parse_email(address)


def check_time_zone(name: str) -> None:
    """Raise ``invalid_time_zone`` if the time zone is not known."""
    load_zone(name)


def check_password(password: str, username: str, email: str) -> None:
    """Raise ``password_too_weak`` if the password is too weak."""
    rules.check_password(password, username, email)
