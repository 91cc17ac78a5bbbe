"""The login at an SMTP server: its password file, and the refusal to send a password without TLS."""

from base64 import b64decode
from codecs import BOM_UTF8
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import Settings
from popug_cli.platform.files import exposure_of, read_regular_file

if TYPE_CHECKING:
    import smtplib


def read_password(settings: Settings, home: Home) -> str | None:
    """Return the password: None without a username, empty without a password file.

    Raise ``OSError`` if the username is not ASCII, or if the file cannot be read or other users can access it.
    """
    username, file = settings.text("mail.smtp_username"), settings.text("mail.smtp_password_file")
    if not username:
        return None
    if not username.isascii():
        raise OSError("mail.smtp_username is not ASCII")
    if not file:
        return ""
    try:
        content, status = read_regular_file(Path(file).expanduser())
        exposure = exposure_of(status, home.root.stat().st_uid)
        password = content.removeprefix(BOM_UTF8).decode("ascii").partition("\n")[0].removesuffix("\r")
    except (OSError, RuntimeError, ValueError) as error:
        raise OSError(f"no password in ASCII can be read from {file}, the mail.smtp_password_file") from error
    if exposure:
        raise OSError(f"{exposure} {file}, the mail.smtp_password_file; run `chmod 600` as the owner of the home")
    return password


def check_encryption(settings: Settings, peer_address: str | None = None) -> None:
    """Raise ``OSError`` if a login would send the password without TLS.

    ``mail.smtp_login_without_tls`` permits it if the peer is this machine. Until connected, `peer_address` is None.
    """
    if not settings.text("mail.smtp_username") or settings.text("mail.smtp_tls") != "none":
        return
    is_remote = peer_address is not None and not ip_address(peer_address.partition("%")[0]).is_loopback
    if is_remote or not settings.flag("mail.smtp_login_without_tls"):
        raise OSError(
            "mail.smtp_tls is none, so others could read the password; set it to starttls or tls"
            " (to this machine only, mail.smtp_login_without_tls permits it)"
        )


def log_in(client: "smtplib.SMTP", username: str, password: str) -> None:
    """Log in. Raise the server's refusal, without its text if that quotes the password, because it will be logged."""
    import smtplib

    try:
        client.login(username, password)
    except smtplib.SMTPResponseException as refusal:
        error = refusal.smtp_error
        text = error.decode(errors="replace") if isinstance(error, bytes) else error
        if password and any(password in word for word in (text, *map(_decoded, text.split()))):
            raise smtplib.SMTPAuthenticationError(refusal.smtp_code, "the reply quotes the password") from None
        raise


def _decoded(word: str) -> str:
    """Return the text that a word of base64 encodes, or an empty text. SMTP sends the password in base64."""
    try:
        return b64decode(word.strip("()<>[],.;:'\""), validate=True).decode(errors="replace")
    except ValueError:
        return ""
