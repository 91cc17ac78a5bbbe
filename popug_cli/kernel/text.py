"""Text from people: validate it, escape its hidden characters before it is shown, and suggest corrections."""

import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable

from popug_cli.kernel.errors import InvalidInput

HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters and marks that show nothing
BLANK_SYMBOLS = frozenset("\u2800\U0001d159")  # the empty Braille pattern, which serves as a space, and a null notehead
BYTE_ORDER_MARK = "\ufeff"
MIN_SIMILARITY = 0.6
MAX_REASON_CHARACTERS = 500
ASCII_REPLACEMENTS = {"…": "...", "“": '"', "”": '"'}
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
MASK = "***"
NOT_SHOWN = "(not shown, because it is not a URL)"
_DATABASE_URL = re.compile(  # for libpq, an @ before the first slash ends the credentials
    r"(?s)\s*(?P<scheme>postgres(?:ql)?://)(?P<credentials>(?:[^/@]*@)?(?:[^?]*@)?)(?P<server>[^@?]*)(?P<query>\?.*)?"
)
_PASSWORD_WORDS = ("password", "secret")


def is_hidden(character: str) -> bool:
    """Return whether a terminal would act on the character, or show nothing for it.

    These are control, format (bidi), surrogate, private, unassigned and line-separator characters, and blank letters.
    """
    return unicodedata.category(character) in HIDDEN_CATEGORIES or character in BLANK_LETTERS


def is_blank(text: str) -> bool:
    """Return whether the text shows nothing; a combining mark alone, without a visible character, shows nothing."""
    return all(
        character.isspace()
        or is_hidden(character)
        or character in BLANK_SYMBOLS
        or unicodedata.category(character).startswith("M")
        for character in text
    )


def decode_text(content: bytes) -> str:
    """Return the text of bytes in UTF-8 or, after a byte order mark, in UTF-16; raise ``UnicodeDecodeError``.

    The byte order mark is not part of the text.
    """
    return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")


def validate_reason(reason: str, *, hint: str, allow_hidden: bool = False) -> str:
    """Return a reason that a person typed, with each run of white space as one space; raise ``invalid_reason``.

    With ``allow_hidden`` the reason may quote text that a terminal does not show, and have several lines.
    """
    words = " ".join(reason.split())
    if len(words) > MAX_REASON_CHARACTERS or is_blank(words):
        sentence = f"A reason has 1 to {MAX_REASON_CHARACTERS} characters."
    elif not allow_hidden and any(is_hidden(character) for character in reason.strip()):
        sentence = "A reason is one line of visible characters."
    else:
        return words
    raise InvalidInput("invalid_reason", sentence, hint=hint)


def escape_hidden(text: str, *, keep: str = "") -> str:
    """Return the text with its hidden characters escaped, except those in ``keep``; see ``is_hidden``."""
    if _PLAIN.match(text):
        return text
    return "".join(c if c in keep or not is_hidden(c) else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 task``, ``2 tasks``, ``1,000 people``. ``plural`` defaults to ``noun`` + s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def did_you_mean(typed: str, words: Iterable[str]) -> str:
    """Return a sentence, followed by a space, with the words nearest to ``typed``; an empty text if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(typed.lower(), [*words], n=2, cutoff=MIN_SIMILARITY)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def ascii_fallback(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that a stream cannot encode: ``ASCII_REPLACEMENTS`` or escapes (a codec error handler)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(ASCII_REPLACEMENTS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), error.end


def escape_hidden_json(document: str, *, only_ascii: bool = False) -> str:
    """Return the JSON document with hidden (or all non-ASCII) characters escaped; its values stay the same."""
    if _PLAIN.match(document):
        return document
    if only_ascii:
        return "".join(c if c.isascii() and not is_hidden(c) else _json_escape(c) for c in document)
    return "".join(c if not is_hidden(c) else _json_escape(c) for c in document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def without_password(url: str) -> str:
    """Return a URL with ``***`` for its passwords; any other text is replaced, because it may hold one anywhere."""
    if not url or not (parts := _DATABASE_URL.fullmatch(url)):
        return NOT_SHOWN if url else ""
    user, colon, _ = parts["credentials"].partition(":")
    shown = f"{user}:{MASK}@" if colon else user
    return parts["scheme"] + shown + parts["server"] + "&".join(map(_masked, (parts["query"] or "").split("&")))


def has_password(url: str) -> bool:
    """Return whether a URL, or a text in its place, may contain a password."""
    return without_password(url) != url.strip()


def _masked(parameter: str) -> str:
    """Return ``name=value`` of a query with a mask for the value of a password."""
    from urllib.parse import unquote  # few commands need it

    name, equals, _ = parameter.partition("=")
    is_secret = any(word in unquote(parameter).lower() for word in _PASSWORD_WORDS)
    return f"{name}={MASK}" if equals and is_secret else parameter
