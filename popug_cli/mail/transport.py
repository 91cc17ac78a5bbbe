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

from popug_cli.kernel.disk import make_directory
from popug_cli.kernel.home import OWNER_ONLY_FILE, Home
from popug_cli.kernel.settings import Settings
from popug_cli.mail.letter import Letter
from popug_cli.mail.rules import one_line
from popug_cli.storage.faults import place_fault

if TYPE_CHECKING:
    import smtplib
    import ssl

OK, WILL_FORWARD, GO_ON, CLOSING, TOO_LARGE = 250, 251, 354, 421, 552
TOO_LARGE_IN_FULL = ("5.2.3", "5.3.4")  # RFC 3463
MAILDIR_STEP_SECONDS = 1
_DOT_FIRST = re.compile(rb"^\.", re.MULTILINE)
_SAFE_NAME = re.compile(r"[A-Za-z0-9-]+")


class Verdict(Enum):
    """What became of a mail that was handed over."""

    TAKEN = "taken"
    DEFERRED = "not now"
    REFUSED = "never"
    BROKEN = "the connection broke, so that nobody knows whether it was taken"
    UNAVAILABLE = "there is no connection, or no mail of ours is taken"


class Outcome(NamedTuple):
    """A verdict, and the reason where it is not ``TAKEN``."""

    verdict: Verdict
    error: str = ""


TAKEN = Outcome(Verdict.TAKEN)


Work = Callable[[], None]


class Transport(Protocol):
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

    def send(self, letter: Letter, *, mark: Work, marked: Work, meanwhile: Work) -> Outcome:
        """Hand over one mail.

        One that keeps nothing back calls ``mark`` as soon as it has begun, which begins to mark those before,
        ``marked`` before this one could be taken, which waits for that (what it raises comes out, and the mail was not
        taken), and ``meanwhile`` while it waits.
        """
        ...

    def settle(self) -> Outcome:
        """Make certain what was taken."""
        ...


def open_transport(settings: Settings, home: Home) -> Transport:
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

    def send(self, letter: Letter, *, mark: Work, marked: Work, meanwhile: Work) -> Outcome:
        """Write a file under ``tmp``, synced, then move it to ``new``."""
        name = _name_of(letter)
        content = letter.content.replace(b"\r\n", b"\n")
        try:
            self._make()
            _write_synced(self._root / "tmp" / name, content)
            (self._root / "tmp" / name).replace(self._root / "new" / name)
        except OSError as error:
            return _refused_by_disk(error, self._root)
        return TAKEN

    def settle(self) -> Outcome:
        """Sync the directory, so that the files keep their names."""
        try:
            descriptor = os.open(self._root / "new", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return _refused_by_disk(error, self._root)
        return TAKEN

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

    def send(self, letter: Letter, *, mark: Work, marked: Work, meanwhile: Work) -> Outcome:
        """Hand one mail to the server, which takes it by the dot that ends its content, and not before."""
        if self._client is None:
            mark()
            marked()
        try:
            client = self._client or self._connect()
        except (OSError, UnicodeError) as error:
            where = f"{self._settings.text('mail.smtp_host')}:{self._settings.number('mail.smtp_port')}"
            return Outcome(Verdict.UNAVAILABLE, one_line(f"{where}: {_reason(error)}"))
        try:
            outcome = _announce(client, letter, mark) or _hand_over(client, letter, marked, meanwhile)
        except BaseException:
            self._drop()
            raise
        if outcome.verdict is Verdict.BROKEN or client.sock is None:
            self._drop()
        return outcome

    def settle(self) -> Outcome:
        """The server answers for what it took."""
        return TAKEN

    def _connect(self) -> "smtplib.SMTP":
        from popug_cli.mail.client import Client, TlsClient

        host, port = self._settings.text("mail.smtp_host"), self._settings.number("mail.smtp_port")
        security, me = self._settings.text("mail.smtp_tls"), socket.gethostname() or "localhost"
        if not host:
            raise OSError("mail.smtp_host is empty")
        password = self._password()
        if security == "tls":
            trust = self._trust()
            client: Client = TlsClient(host, port, me, timeout=self.step_seconds, context=trust)
        else:
            client = Client(host, port, me, timeout=self.step_seconds)
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


def _announce(client: "smtplib.SMTP", letter: Letter, mark: Work) -> Outcome | None:
    """Say whose mail comes; nothing comes back where the server waits for its content."""
    import smtplib

    try:
        client.ehlo_or_helo_if_needed()
        size = f" SIZE={len(letter.content)}" if client.has_extn("size") else ""
        client.putcmd("MAIL", f"FROM:<{letter.sender}>{size}")
        mark()
        code, reason = client.getreply()
        if code != OK:
            return _refused(client, code, reason, for_good=_of_sender(code, reason))
        code, reason = client.docmd("RCPT", f"TO:<{letter.receiver}>")
        if code not in {OK, WILL_FORWARD}:
            return _refused(client, code, reason)
        code, reason = client.docmd("DATA")
        return None if code == GO_ON else _refused(client, code, reason)
    except smtplib.SMTPResponseException as refusal:
        return _refused(client, refusal.smtp_code, refusal.smtp_error, for_good=Verdict.UNAVAILABLE)
    except OSError as error:
        return _broken(error)


def _hand_over(client: "smtplib.SMTP", letter: Letter, marked: Work, meanwhile: Work) -> Outcome:
    """Give the content, with every dot doubled that begins a line."""
    assert letter.content.endswith(b"\r\n")
    marked()
    try:
        client.send(_DOT_FIRST.sub(b"..", letter.content) + b".\r\n")
        meanwhile()
        code, reason = client.getreply()
    except OSError as error:
        return _broken(error)
    return TAKEN if code == OK else _refused(client, code, reason)


def _of_sender(code: int, reason: bytes) -> Verdict:
    """What a 5xx to the sender means, with whom the size of the mail is told (RFC 1870)."""
    is_too_large = code == TOO_LARGE or _words(code, reason).partition(" ")[2].startswith(TOO_LARGE_IN_FULL)
    return Verdict.REFUSED if is_too_large else Verdict.UNAVAILABLE


def _refused(client: "smtplib.SMTP", code: int, reason: bytes | str, *, for_good: Verdict = Verdict.REFUSED) -> Outcome:
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
        return Outcome(for_good, _words(code, reason))
    return Outcome(Verdict.BROKEN if client.sock is None else Verdict.DEFERRED, _words(code, reason))


def _broken(error: OSError) -> Outcome:
    return Outcome(Verdict.BROKEN, one_line(str(error) or type(error).__name__))


def _words(code: int, reason: bytes | str) -> str:
    return one_line(f"{code} {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}")


def _reason(error: OSError | UnicodeError) -> str:
    """Why there is no connection, in words."""
    import smtplib
    import ssl

    if isinstance(error, smtplib.SMTPResponseException):
        return _words(error.smtp_code, error.smtp_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "there is no host of that name"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return (error.strerror if error.errno else str(error)) or str(error) or type(error).__name__


def _refused_by_disk(error: OSError, root: Path) -> Outcome:
    fault = place_fault(error, root / "new")
    return (
        Outcome(Verdict.UNAVAILABLE, fault.message)
        if fault
        else Outcome(Verdict.UNAVAILABLE, one_line(str(error) or type(error).__name__))
    )


def _name_of(letter: Letter) -> str:
    name = letter.message_id.strip("<>").partition("@")[0]
    assert _SAFE_NAME.fullmatch(name)
    return f"{name}.popug"


def _write_synced(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY_FILE)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
