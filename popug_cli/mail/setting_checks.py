"""Check the settings of mail whose values the standards for mail limit."""

from popug_cli.kernel.errors import InvalidInput
from popug_cli.mail.domains import hello_name
from popug_cli.mail.mime import sender_of


def check_sender(sender: str) -> None:
    """Raise ``invalid_setting`` unless `sender` is exactly one address with a domain, in ASCII up to the @."""
    try:
        sender_of(sender)
    except ValueError:
        raise InvalidInput(
            "invalid_setting",
            f"{sender!r} is not a valid mail sender.",
            hint="Run `popug config set mail.from popug@your.domain`. The part before the @ must be ASCII.",
            details={"key": "mail.from"},
        ) from None


def check_hello_name(name: str) -> None:
    """Raise ``invalid_setting`` unless `name` is empty or may be sent in EHLO."""
    try:
        hello_name(name, "", "")
    except ValueError:
        raise InvalidInput(
            "invalid_setting",
            f"{name!r} is not a valid value for mail.smtp_hello_name.",
            hint="Give a host name with a dot, such as mail.your.domain, or an address such as [192.0.2.7].",
            details={"key": "mail.smtp_hello_name"},
        ) from None
