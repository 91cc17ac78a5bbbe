"""Where mail goes: a Maildir, or an SMTP server over one connection for many mails."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import Settings
from popug_cli.mail.mime import RenderedMail
from popug_cli.mail.rules import one_line
from popug_cli.platform.files import OWNER_ONLY_FILE, make_directory
from popug_cli.storage.errors import environment_error

if TYPE_CHECKING:
    import smtplib
    import ssl

OK, WILL_FORWARD, START_INPUT, CLOSING, TOO_LARGE = 250, 251, 354, 421, 552
TOO_LARGE_ENHANCED = ("5.2.3", "5.3.4")  # RFC 3463
MAILDIR_STEP_SECONDS = 1
_DOT_FIRST = re.compile(rb"^\.", re.MULTILINE)
_SAFE_NAME = re.compile(r"[A-Za-z0-9-]+")


class Verdict(Enum):
    """What became of a mail that was handed over."""

    ACCEPTED = "taken"
    DEFERRED = "not now"
    REJECTED = "never"
    DISCONNECTED = "the connection broke, so that nobody knows whether it was taken"
    UNAVAILABLE = "there is no connection, or no mail of ours is taken"


class DeliveryResult(NamedTuple):
    """A verdict, and the reason where it is not ``ACCEPTED``."""

    verdict: Verdict
    error: str = ""


ACCEPTED = DeliveryResult(Verdict.ACCEPTED)


MarkingStep = Callable[[], None]


class MailTransport(Protocol):
    """Takes mails, each to its one receiver.

    What was taken is certain once ``settle`` said so; one step lasts up to ``step_seconds``.
    """

    step_seconds: int

    def __enter__(self) -> Self:
        """Nothing is connected yet."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of what was held."""
        ...

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Hand over one mail.

        A transport that settles each mail calls ``start_marking`` as soon as it has begun, which begins to mark the
        mails before this one. It calls ``finish_marking``, which waits for that, before the server could accept this
        one; what that raises is raised here, and the mail was not accepted. It calls ``prepare_next`` while it waits.
        """
        ...

    def settle(self) -> DeliveryResult:
        """Make certain what was taken."""
        ...


def open_transport(settings: Settings, home: Home) -> MailTransport:
    """The transport that the settings choose."""
    return Smtp(settings) if settings.text("mail.transport") == "smtp" else Maildir(home.maildir)


class Maildir:
    """A Maildir: each mail is a file of its owner's, named by its Message-ID, so that a repeat replaces it.

    Many are made certain by one sync of their directory, and marked then.
    """

    step_seconds = MAILDIR_STEP_SECONDS

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> Self:
        """Nothing is held."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Write a file under ``tmp``, synced, then move it to ``new``."""
        name = _file_name(mail)
        content = mail.content.replace(b"\r\n", b"\n")
        try:
            self._make()
            _write_synced(self._root / "tmp" / name, content)
            (self._root / "tmp" / name).replace(self._root / "new" / name)
        except OSError as error:
            return _disk_error(error, self._root)
        return ACCEPTED

    def settle(self) -> DeliveryResult:
        """Sync the directory, so that the files keep their names."""
        try:
            descriptor = os.open(self._root / "new", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return _disk_error(error, self._root)
        return ACCEPTED

    def _make(self) -> None:
        for folder in ("cur", "new", "tmp"):
            make_directory(self._root / folder)


class Smtp:
    """An SMTP server; the connection is made with the first mail and used for all that follow."""

    def __init__(self, settings: Settings) -> None:
        self.step_seconds = settings.number("mail.smtp_timeout_seconds")
        self._settings = settings
        self._client: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        """Nothing is connected yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take leave of the server."""
        if self._client is not None and error is None:
            with suppress(OSError):
                self._client.quit()
        self._drop()

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Hand one mail to the server, which takes it by the dot that ends its content, and not before."""
        if self._client is None:
            start_marking()
            finish_marking()
        try:
            client = self._client or self._connect()
        except (OSError, UnicodeError) as error:
            where = f"{self._settings.text('mail.smtp_host')}:{self._settings.number('mail.smtp_port')}"
            return DeliveryResult(Verdict.UNAVAILABLE, one_line(f"{where}: {_connection_error(error)}"))
        try:
            outcome = _envelope(client, mail, start_marking) or _data(client, mail, finish_marking, prepare_next)
        except BaseException:
            self._drop()
            raise
        if outcome.verdict is Verdict.DISCONNECTED or client.sock is None:
            self._drop()
        return outcome

    def settle(self) -> DeliveryResult:
        """The server answers for what it took."""
        return ACCEPTED

    def _connect(self) -> "smtplib.SMTP":
        from popug_cli.mail.smtp_client import Client, TlsClient

        host, port = self._settings.text("mail.smtp_host"), self._settings.number("mail.smtp_port")
        security, local_name = self._settings.text("mail.smtp_tls"), socket.gethostname() or "localhost"
        if not host:
            raise OSError("mail.smtp_host is empty")
        password = self._password()
        if security == "tls":
            trust = self._trust()
            client: Client = TlsClient(host, port, local_name, timeout=self.step_seconds, context=trust)
        else:
            client = Client(host, port, local_name, timeout=self.step_seconds)
        self._client = client
        try:
            if security == "starttls":
                client.starttls(context=self._trust())
            if password is not None:
                client.login(self._settings.text("mail.smtp_username"), password)
        except BaseException:
            self._drop()
            raise
        return client

    def _trust(self) -> "ssl.SSLContext":
        """Certificates and host names are checked, always; against the machine's and the file's authorities."""
        import ssl

        trust = ssl.create_default_context()
        if file := self._settings.text("mail.smtp_ca_file"):
            try:
                trust.load_verify_locations(Path(file).expanduser())
            except (OSError, RuntimeError) as error:
                raise OSError(f"no certificate can be read from {file}, the mail.smtp_ca_file") from error
        return trust

    def _password(self) -> str | None:
        if not self._settings.text("mail.smtp_username"):
            return None
        file = self._settings.text("mail.smtp_password_file")
        if not file:
            return ""
        try:
            return Path(file).expanduser().read_text(encoding="ascii").partition("\n")[0].removesuffix("\r")
        except (OSError, RuntimeError, UnicodeError) as error:
            raise OSError(f"no password in ASCII can be read from {file}, the mail.smtp_password_file") from error

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _envelope(client: "smtplib.SMTP", mail: RenderedMail, start_marking: MarkingStep) -> DeliveryResult | None:
    """Say whose mail comes; nothing comes back where the server waits for its content."""
    import smtplib

    try:
        client.ehlo_or_helo_if_needed()
        size = f" SIZE={len(mail.content)}" if client.has_extn("size") else ""
        client.putcmd("MAIL", f"FROM:<{mail.sender}>{size}")
        start_marking()
        code, reason = client.getreply()
        if code != OK:
            return _rejected(client, code, reason, permanent=_sender_rejection(code, reason))
        code, reason = client.docmd("RCPT", f"TO:<{mail.receiver}>")
        if code not in {OK, WILL_FORWARD}:
            return _rejected(client, code, reason)
        code, reason = client.docmd("DATA")
        return None if code == START_INPUT else _rejected(client, code, reason)
    except smtplib.SMTPResponseException as refusal:
        return _rejected(client, refusal.smtp_code, refusal.smtp_error, permanent=Verdict.UNAVAILABLE)
    except OSError as error:
        return _disconnected(error)


def _data(
    client: "smtplib.SMTP", mail: RenderedMail, finish_marking: MarkingStep, prepare_next: MarkingStep
) -> DeliveryResult:
    """Give the content, with every dot doubled that begins a line."""
    assert mail.content.endswith(b"\r\n")
    finish_marking()
    try:
        client.send(_DOT_FIRST.sub(b"..", mail.content) + b".\r\n")
        prepare_next()
        code, reason = client.getreply()
    except OSError as error:
        return _disconnected(error)
    return ACCEPTED if code == OK else _rejected(client, code, reason)


def _sender_rejection(code: int, reason: bytes) -> Verdict:
    """What a 5xx to the sender means, with whom the size of the mail is told (RFC 1870)."""
    is_too_large = code == TOO_LARGE or _reply_text(code, reason).partition(" ")[2].startswith(TOO_LARGE_ENHANCED)
    return Verdict.REJECTED if is_too_large else Verdict.UNAVAILABLE


def _rejected(
    client: "smtplib.SMTP", code: int, reason: bytes | str, *, permanent: Verdict = Verdict.REJECTED
) -> DeliveryResult:
    """Leave the connection ready for another mail, or closed where the server said that it closes it.

    A refusal means: 4xx may pass, 5xx will not, and some servers hang up with it.
    """
    try:
        if code == CLOSING:
            client.close()
        else:
            client.rset()
    except OSError:
        client.close()
    if code >= 500:
        return DeliveryResult(permanent, _reply_text(code, reason))
    return DeliveryResult(Verdict.DISCONNECTED if client.sock is None else Verdict.DEFERRED, _reply_text(code, reason))


def _disconnected(error: OSError) -> DeliveryResult:
    return DeliveryResult(Verdict.DISCONNECTED, one_line(str(error) or type(error).__name__))


def _reply_text(code: int, reason: bytes | str) -> str:
    return one_line(f"{code} {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}")


def _connection_error(error: OSError | UnicodeError) -> str:
    """Why there is no connection, in words."""
    import smtplib
    import ssl

    if isinstance(error, smtplib.SMTPResponseException):
        return _reply_text(error.smtp_code, error.smtp_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "there is no host of that name"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return (error.strerror if error.errno else str(error)) or str(error) or type(error).__name__


def _disk_error(error: OSError, root: Path) -> DeliveryResult:
    fault = environment_error(error, root / "new")
    return (
        DeliveryResult(Verdict.UNAVAILABLE, fault.message)
        if fault
        else DeliveryResult(Verdict.UNAVAILABLE, one_line(str(error) or type(error).__name__))
    )


def _file_name(mail: RenderedMail) -> str:
    name = mail.message_id.strip("<>").partition("@")[0]
    assert _SAFE_NAME.fullmatch(name)
    return f"{name}.popug"


def _write_synced(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY_FILE)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
