"""MIME rendering of mails. Common headers are formatted directly instead of by the ``email`` package, for speed."""

import re
from base64 import encodebytes
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from popug_cli.kernel.text import escape_hidden
from popug_cli.mail.domains import ascii_address

POLICY = SMTP.clone(cte_type="7bit")
MAX_LINE_CHARACTERS = 990
_MESSAGE_ID = re.compile(r"<([A-Za-z0-9-]+)@[A-Za-z0-9.-]+>")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


class RenderedMail(NamedTuple):
    """A mail with its envelope: bare addresses, and the content with CRLF line endings."""

    sender: str
    receiver: str
    message_id: str
    content: bytes


def render(
    *, username: str, to: str, sender: str, message_id: str, date: datetime, subject: str, text: str, html: str
) -> RenderedMail:
    """Render a mail; the same arguments give the same bytes. `subject` is one line of ASCII.

    Raise ``ValueError`` if the Message-ID or the receiver's address is not valid.
    """
    assert subject.isascii()
    assert subject.isprintable()
    if not (identity := _MESSAGE_ID.fullmatch(message_id)):
        raise ValueError(f"{message_id!r} is not a valid Message-ID")
    from_line, address = sender_of(sender)
    to = ascii_address(to)
    boundary = f"part-of-{identity[1]}"
    head = (
        f"Message-ID: {message_id}\r\nDate: {_date(date)}\r\n{from_line}{_to_line(username, to)}"
        f"Subject: {subject}\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'
    )
    parts = f"--{boundary}\r\n{_part('plain', text)}--{boundary}\r\n{_part('html', html)}--{boundary}--\r\n"
    return RenderedMail(address, to, message_id, (head + parts).encode("ascii"))


def _part(kind: str, body: str) -> str:
    lines = body.splitlines()
    plain = body.isascii() and max(map(len, lines), default=0) <= MAX_LINE_CHARACTERS
    if plain:
        encoded = "\r\n".join(lines) + "\r\n"
    else:
        encoded = encodebytes("\r\n".join([*lines, ""]).encode()).decode().replace("\n", "\r\n")
    encoding = "7bit" if plain else "base64"
    return f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{encoded}\r\n'


def _to_line(username: str, to: str) -> str:
    if _PLAIN_NAME.fullmatch(username) and _PLAIN_ADDRESS.fullmatch(to) and len(to) < MAX_LINE_CHARACTERS:
        return f"To: {username}\r\n <{to}>\r\n"
    message = EmailMessage(policy=POLICY)
    try:
        message["To"] = Address(display_name=escape_hidden(username), addr_spec=to)
    except (ValueError, IndexError, MessageError) as error:
        raise ValueError(f"{to!r} is not a valid address") from error
    return str(message["To"].fold(policy=POLICY))


@lru_cache(maxsize=4)
def _date(date: datetime) -> str:
    return format_datetime(date)


@lru_cache(maxsize=4)
def sender_of(sender: str) -> tuple[str, str]:
    """Return the From header and the bare address of the sender, both in ASCII.

    Raise ``ValueError`` unless `sender` is exactly one address with a domain.
    """
    header = _from_header(sender)
    if len(header.addresses) != 1 or header.defects or not header.addresses[0].domain:
        raise ValueError(f"{sender!r} is not one address with a domain")
    author = header.addresses[0]
    if (address := ascii_address(author.addr_spec)) != author.addr_spec:
        header = _from_header(Address(author.display_name, addr_spec=address))
    line = str(header.fold(policy=POLICY))
    line.encode("ascii")
    return line, address


def _from_header(author: str | Address) -> Any:
    message = EmailMessage(policy=POLICY)
    try:
        message["From"] = author
    except (IndexError, MessageError) as error:
        raise ValueError(f"{author!r} is not a valid address") from error
    return message["From"]
