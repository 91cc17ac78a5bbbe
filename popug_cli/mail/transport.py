"""Mail transports: a Maildir, or an SMTP server with one connection for many mails."""

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
from popug_cli.mail.domains import ascii_domain, hello_name
from popug_cli.mail.mime import RenderedMail
from popug_cli.mail.rules import Blame, blame_of, one_line
from popug_cli.mail.smtp_login import check_encryption, log_in, read_password
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
    """The outcome of sending a mail."""

    ACCEPTED = "accepted"
    DEFERRED = "rejected for now"
    REJECTED = "rejected permanently"
    REFUSED = "rejected permanently because of the sender's set-up"
    UNCLEAR = "rejected permanently for a reason that may be the receiver's or the set-up's"
    DISCONNECTED = "the connection broke, and it is unknown whether the mail was accepted"
    UNAVAILABLE = "there is no connection, or the server accepts none of our mail"


class DeliveryResult(NamedTuple):
    """A verdict, and the reason unless it is ``ACCEPTED``.

    `has_hung_up` if the server ended the connection, but certainly did not accept the mail.
    """

    verdict: Verdict
    error: str = ""
    has_hung_up: bool = False


VERDICT_OF = {Blame.RECEIVER: Verdict.REJECTED, Blame.SETUP: Verdict.REFUSED, Blame.UNCLEAR: Verdict.UNCLEAR}
ACCEPTED = DeliveryResult(Verdict.ACCEPTED)


MarkingStep = Callable[[], None]


class MailTransport(Protocol):
    """Sends mails, each to one receiver.

    An accepted mail is durable once `settle` succeeds. One step takes up to `step_seconds`.
    """

    step_seconds: int

    def __enter__(self) -> Self:
        """Return the transport; the first `send` connects."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        ...

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Send one mail.

        A transport that settles each mail by itself calls `start_marking` at the start, to begin marking the mails
        before this one. It calls `finish_marking` to wait for the marking, before the server could accept this mail. An
        error of `finish_marking` is raised; the mail was not accepted then. It calls `prepare_next` while it waits for
        the server.
        """
        ...

    def settle(self) -> DeliveryResult:
        """Make the accepted mails durable."""
        ...


def open_transport(settings: Settings, home: Home) -> MailTransport:
    """Return the transport that the settings choose, not connected yet."""
    return Smtp(settings, home) if settings.text("mail.transport") == "smtp" else Maildir(home.maildir)


class Maildir:
    """A Maildir: each mail is a file, readable by its owner only and named by its Message-ID.

    A repeated mail replaces the file. One sync of the directory settles many mails, which are marked afterwards.
    """

    step_seconds = MAILDIR_STEP_SECONDS

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> Self:
        """Return the transport; there is nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing; there is nothing to close."""

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Write and sync a file in ``tmp``, then move it to ``new``."""
        name = _file_name(mail)
        content = mail.content.replace(b"\r\n", b"\n")
        try:
            self._make_folders()
            _write_synced(self._root / "tmp" / name, content)
            (self._root / "tmp" / name).replace(self._root / "new" / name)
        except OSError as error:
            return _disk_error(error, self._root)
        return ACCEPTED

    def settle(self) -> DeliveryResult:
        """Sync the directory, so that the moves are durable."""
        try:
            descriptor = os.open(self._root / "new", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return _disk_error(error, self._root)
        return ACCEPTED

    def _make_folders(self) -> None:
        for folder in ("cur", "new", "tmp"):
            make_directory(self._root / folder)


class Smtp:
    """An SMTP server. The first mail opens a connection, which the following mails use."""

    def __init__(self, settings: Settings, home: Home) -> None:
        self.step_seconds = settings.number("mail.smtp_timeout_seconds")
        self._settings, self._home = settings, home
        self._client: smtplib.SMTP | None = None
        self._has_delivered = False

    def __enter__(self) -> Self:
        """Return the transport; the first `send` connects."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send QUIT unless an error is raised, and close the connection."""
        if self._client is not None and error is None:
            with suppress(OSError):
                self._client.quit()
        self._close_connection()

    def send(
        self, mail: RenderedMail, *, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        """Send one mail. The server accepts it only after the dot that ends its content.

        A server may close a connection between two mails (RFC 5321, 3.8), or refuse to take more mail over it. The
        mail is then sent over a new one.
        """
        is_reused = self._client is not None
        outcome = self._send(mail, start_marking, finish_marking, prepare_next)
        if is_reused and outcome.has_hung_up:
            self._close_connection()
            outcome = self._send(mail, start_marking, finish_marking, prepare_next)
        return outcome

    def _send(
        self, mail: RenderedMail, start_marking: MarkingStep, finish_marking: MarkingStep, prepare_next: MarkingStep
    ) -> DeliveryResult:
        if self._client is None:
            start_marking()
            finish_marking()
        try:
            client = self._client or self._connect()
        except (OSError, ValueError) as error:
            where = f"{self._settings.text('mail.smtp_host')}:{self._settings.number('mail.smtp_port')}"
            return DeliveryResult(Verdict.UNAVAILABLE, one_line(f"{where}: {_connection_error(error)}"))
        try:
            refused = _send_envelope(client, mail, start_marking, has_delivered=self._has_delivered)
            outcome = refused or _send_content(client, mail, finish_marking, prepare_next)
        except UnicodeError as error:
            self._close_connection()
            return DeliveryResult(Verdict.UNCLEAR, one_line(str(error)))
        except BaseException:
            self._close_connection()
            raise
        self._has_delivered |= outcome.verdict is Verdict.ACCEPTED
        if outcome.verdict is Verdict.DISCONNECTED or client.sock is None:
            self._close_connection()
        return outcome

    def settle(self) -> DeliveryResult:
        """Do nothing; the server's reply to each mail has settled it."""
        return ACCEPTED

    def _connect(self) -> "smtplib.SMTP":
        from popug_cli.mail.smtp_client import Client, TlsClient

        host, port = ascii_domain(self._settings.text("mail.smtp_host")), self._settings.number("mail.smtp_port")
        security = self._settings.text("mail.smtp_tls")
        if not host:
            raise OSError("mail.smtp_host is empty")
        check_encryption(self._settings)
        password = read_password(self._settings, self._home)
        if security == "tls":
            tls_context = self._tls_context()
            client: Client = TlsClient(host, port, "", timeout=self.step_seconds, context=tls_context)
        else:
            client = Client(host, port, "", timeout=self.step_seconds)
        self._client, self._has_delivered = client, False
        try:
            check_encryption(self._settings, client.sock.getpeername()[0] if client.sock else None)
            client.local_hostname = self._hello_name(client)
            if security == "starttls":
                client.starttls(context=self._tls_context())
            if password is not None:
                log_in(client, self._settings.text("mail.smtp_username"), password)
        except BaseException:
            self._close_connection()
            raise
        return client

    def _hello_name(self, client: "smtplib.SMTP") -> str:
        assert client.sock is not None
        configured, address = self._settings.text("mail.smtp_hello_name"), client.sock.getsockname()[0]
        try:
            return hello_name(configured, socket.gethostname(), address)
        except ValueError as error:
            raise OSError(f"{error}, the mail.smtp_hello_name") from error

    def _tls_context(self) -> "ssl.SSLContext":
        """Return a TLS context that always checks certificate and host name.

        It trusts the system's authorities and those in ``mail.smtp_ca_file``.
        """
        import ssl

        tls_context = ssl.create_default_context()
        if file := self._settings.text("mail.smtp_ca_file"):
            try:
                tls_context.load_verify_locations(Path(file).expanduser())
            except (OSError, RuntimeError, ValueError) as error:
                raise OSError(f"no certificate can be read from {file}, the mail.smtp_ca_file") from error
        return tls_context

    def _close_connection(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _send_envelope(
    client: "smtplib.SMTP", mail: RenderedMail, start_marking: MarkingStep, *, has_delivered: bool
) -> DeliveryResult | None:
    """Send MAIL, RCPT and DATA. Return None if the server waits for the content, else the rejection.

    With `has_delivered`, the server has accepted mail over this connection. If it now refuses the sender, it may have a
    limit for each connection, so the refusal counts as a hang-up.
    """
    import smtplib

    try:
        client.ehlo_or_helo_if_needed()
        size = f" SIZE={len(mail.content)}" if client.has_extn("size") else ""
        client.putcmd("MAIL", f"FROM:<{mail.sender}>{size}")
        start_marking()
        code, reason = client.getreply()
        if code != OK:
            refusal = _rejected(client, code, reason, permanent_verdict=_sender_rejection(code, reason))
            may_be_full = has_delivered and refusal.verdict is not Verdict.REJECTED
            return refusal._replace(has_hung_up=True) if may_be_full else refusal
        code, reason = client.docmd("RCPT", f"TO:<{mail.receiver}>")
        if code not in {OK, WILL_FORWARD}:
            return _rejected(client, code, reason)
        code, reason = client.docmd("DATA")
        return None if code == START_INPUT else _rejected(client, code, reason)
    except smtplib.SMTPResponseException as failure:
        return _rejected(client, failure.smtp_code, failure.smtp_error, permanent_verdict=Verdict.UNAVAILABLE)
    except OSError as error:
        return _disconnected(error)


def _send_content(
    client: "smtplib.SMTP", mail: RenderedMail, finish_marking: MarkingStep, prepare_next: MarkingStep
) -> DeliveryResult:
    """Send the content, doubling each dot that begins a line (RFC 5321, 4.5.2), and return the outcome."""
    assert mail.content.endswith(b"\r\n")
    finish_marking()
    try:
        client.send(_DOT_FIRST.sub(b"..", mail.content) + b".\r\n")
        prepare_next()
        code, reason = client.getreply()
    except OSError as error:
        return _disconnected(error)._replace(has_hung_up=False)
    return ACCEPTED if code == OK else _rejected(client, code, reason)


def _sender_rejection(code: int, reason: bytes) -> Verdict:
    """Classify a 5xx reply to MAIL: it rejects this mail if the announced size is too large (RFC 1870), else all."""
    is_too_large = code == TOO_LARGE or _reply_text(code, reason).partition(" ")[2].startswith(TOO_LARGE_ENHANCED)
    return Verdict.REJECTED if is_too_large else Verdict.UNAVAILABLE


def _rejected(
    client: "smtplib.SMTP", code: int, reason: bytes | str, *, permanent_verdict: Verdict | None = None
) -> DeliveryResult:
    """Return the result of a rejection: 4xx is temporary, 5xx is permanent.

    Reset the connection for the next mail, or close it if the server closes it.
    """
    try:
        if code == CLOSING:
            client.close()
        else:
            client.rset()
    except OSError:
        client.close()
    reply = _reply_text(code, reason)
    if code >= 500:
        return DeliveryResult(permanent_verdict or VERDICT_OF[blame_of(reply)], reply)
    verdict = Verdict.DISCONNECTED if client.sock is None else Verdict.DEFERRED
    return DeliveryResult(verdict, reply, has_hung_up=code == CLOSING)


def _disconnected(error: OSError) -> DeliveryResult:
    """Return the result of a broken connection. After a time-out, the server has not hung up."""
    reason = one_line(str(error) or type(error).__name__)
    return DeliveryResult(Verdict.DISCONNECTED, reason, has_hung_up=not isinstance(error, TimeoutError))


def _reply_text(code: int, reason: bytes | str) -> str:
    return one_line(f"{code} {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}")


def _connection_error(error: OSError | ValueError) -> str:
    """Describe why connecting failed."""
    import smtplib
    import ssl

    if isinstance(error, smtplib.SMTPResponseException):
        return _reply_text(error.smtp_code, error.smtp_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "there is no host with that name"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
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
