"""The rules of tasks as pure functions: valid titles, jira ids, searches and import lines; assignability; draws."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from popug_cli.kernel.draws import draw_number
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import BLANK_SYMBOLS, BYTE_ORDER_MARK, escape_hidden, is_blank
from popug_cli.messages.base import NOT_ASSIGNABLE, Role
from popug_cli.messages.tasks import NewTask

MAX_TITLE_CHARACTERS = 200
MAX_JIRA_ID_CHARACTERS = 64
MAX_SEARCH_CHARACTERS = 300
MAX_QUOTED_CHARACTERS = 60
MAX_NUMBER = 2**53

_JIRA_ID_PATTERN = r"[A-Za-z][A-Za-z0-9]*-[0-9]+"
_JIRA_ID = re.compile(_JIRA_ID_PATTERN)
_JIRA_ID_IN_BRACKETS = re.compile(rf"\[\s*({_JIRA_ID_PATTERN})\s*\]\s*(.*)", re.DOTALL)
_JIRA_ID_BEFORE_DASH = re.compile(rf"({_JIRA_ID_PATTERN})\s+[\N{{EM DASH}}\N{{EN DASH}}](?:\s+(.*))?", re.DOTALL)
_TASK_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BLANKS = BYTE_ORDER_MARK + "".join(BLANK_SYMBOLS)
_BLANK_EDGES = re.compile(rf"\A[\s{_BLANKS}]+|[\s{_BLANKS}]+\Z")
_FORBIDDEN_CATEGORIES = {"Cc", "Zl", "Zp"}
_VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


@dataclass(frozen=True, slots=True)
class ParsedTitle:
    """A valid title, and the jira id that belongs to it."""

    title: str
    jira_id: str | None

    @property
    def search_text(self) -> str:
        """The text that a search looks through: jira id and title, as ``fold`` returns them."""
        return fold(f"{self.jira_id} {self.title}" if self.jira_id else self.title)


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A valid line of an import; ``import_key`` is the same each time the same line is imported.

    ``given_id`` is the task id or jira id that the key is made of, or None if it is made of the title.
    """

    number: int
    parsed_title: ParsedTitle
    import_key: str
    given_id: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """A user, as far as tasks needs to know; ``last_sequence`` is the position of the last event that was applied."""

    user_id: str
    username: str
    role: Role
    active: bool
    last_sequence: int

    @property
    def assignable(self) -> bool:
        """Whether the user may hold tasks: active, and neither manager nor admin."""
        return self.active and self.role not in NOT_ASSIGNABLE


def draw_assignee(seed: str, task_id: str, candidates: Sequence[str]) -> str:
    """Return the assignee of a task; ``candidates`` are user ids in ascending order."""
    return candidates[draw_number(f"{seed}:{task_id}", len(candidates))]


def fold(text: str) -> str:
    """Return the text for comparisons that ignore case, composition, width and characters that show nothing.

    That is close to NFKC_Casefold (Unicode Standard, section 3.13, D147). The Turkish dotted and
    dotless i equal the ASCII letter.
    """
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = "".join(c for c in folded if unicodedata.category(c) != "Cf" and c not in _VARIATION_SELECTORS)
    return visible.replace("i\N{COMBINING DOT ABOVE}", "i").replace("\N{LATIN SMALL LETTER DOTLESS I}", "i")


def search_patterns(text: str) -> list[str]:
    """Return the LIKE patterns that find a text, with the backslash as their escape. Raise ``invalid_search``.

    The first finds a text as ``fold`` returns it. The titles of tasks from before ``fold`` are only case-folded, and
    composed as they were typed: the other patterns find these.
    """
    if len(text) > MAX_SEARCH_CHARACTERS or not is_storable(text):
        raise InvalidInput(
            "invalid_search",
            f"{quoted(text)} cannot be searched for.",
            hint=f"Search for at most {MAX_SEARCH_CHARACTERS} characters of a title or jira id.",
        )
    stored = [fold(text), *(unicodedata.normalize(form, text).casefold() for form in ("NFC", "NFD"))]
    escaped = [re.sub(r"([\\%_])", r"\\\1", each) for each in dict.fromkeys(stored)]
    return [f"%{each}%" for each in escaped]


def is_storable(text: str) -> bool:
    """Return whether the text is free of surrogates, which UTF-8 cannot encode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def quoted(typed: str) -> str:
    """Quote a user's input for a sentence: shortened, with hidden characters escaped."""
    short = typed if len(typed) <= MAX_QUOTED_CHARACTERS else typed[:MAX_QUOTED_CHARACTERS] + "…"
    return f"“{escape_hidden(short)}”"


def parse_title(typed: str, jira_id: str | None = None) -> ParsedTitle:
    """Parse a title as a user typed it, compose its letters (NFC), and split off a jira id in front of it.

    ``jira_id`` is a jira id that was given next to the title. Raise ``invalid_title`` or ``invalid_jira_id``.
    """
    given_jira_id = None if jira_id is None else parse_jira_id(jira_id)
    prefixed_jira_id, title = _split_jira_id(_BLANK_EDGES.sub("", unicodedata.normalize("NFC", typed)))
    _check_title(title, typed)
    if given_jira_id and prefixed_jira_id and given_jira_id != prefixed_jira_id:
        raise InvalidInput(
            "invalid_jira_id",
            f"The title begins with jira id {prefixed_jira_id}, but jira id {given_jira_id} was given.",
            hint="Give one of them, or the same one twice.",
            details={"in_title": prefixed_jira_id, "jira_id": given_jira_id},
        )
    return ParsedTitle(title, given_jira_id or prefixed_jira_id)


def parse_jira_id(typed: str) -> str:
    """Return the jira id in upper case. Raise ``invalid_jira_id``."""
    text = typed.strip()
    if not _JIRA_ID.fullmatch(text) or len(text) > MAX_JIRA_ID_CHARACTERS:
        raise InvalidInput(
            "invalid_jira_id",
            f"{quoted(typed)} is not a valid jira id.",
            hint="A jira id is letters and digits, a hyphen and a number, such as POPUG-7,"
            f" and has at most {MAX_JIRA_ID_CHARACTERS} characters.",
            details={"jira_id": escape_hidden(typed[:MAX_TITLE_CHARACTERS])},
        )
    return text.upper()


def parse_import_lines(lines: Iterable[NewTask | None], times_seen: Callable[[str], int]) -> Iterator[ImportLine]:
    """Parse the lines of a file and skip blank ones, which are None.

    ``times_seen`` returns how often it was called with a title. Raise the error of the first bad line, with the number
    of the line, from 1.
    """
    for number, line in enumerate(lines, start=1):
        if line is None:
            continue
        try:
            yield _parse_import_line(number, line, times_seen)
        except InvalidInput as error:
            raise InvalidInput(
                error.code, f"Line {number}: {error.message}", hint=error.hint, details=error.details | {"line": number}
            ) from error


def _parse_import_line(number: int, line: NewTask, times_seen: Callable[[str], int]) -> ImportLine:
    parsed_title = parse_title(line.title, line.jira_id)
    occurrence = times_seen(parsed_title.title)
    if line.task_id is not None:
        kind, given_id = "task_id", _parse_task_id(line.task_id)
    elif parsed_title.jira_id is not None:
        kind, given_id = "jira_id", parsed_title.jira_id
    else:
        return ImportLine(number, parsed_title, f"title {occurrence} {parsed_title.title}", None)
    return ImportLine(number, parsed_title, f"{kind} {given_id}", given_id)


def _parse_task_id(typed: str) -> str:
    text = typed.strip().lower()
    if not _TASK_ID.fullmatch(text):
        raise InvalidInput(
            "invalid_task_id",
            f"{quoted(typed)} is not a valid task id.",
            hint="A task id is a UUID; leave it out if there is none.",
            details={"task_id": escape_hidden(typed[:MAX_TITLE_CHARACTERS])},
        )
    return text


def _split_jira_id(text: str) -> tuple[str | None, str]:
    match = _JIRA_ID_IN_BRACKETS.fullmatch(text) or _JIRA_ID_BEFORE_DASH.fullmatch(text)
    if match is None:
        return None, text
    return parse_jira_id(match[1]), (match[2] or "").strip()


def _check_title(title: str, typed: str) -> None:
    reason = next(_title_flaws(title), None)
    if reason:
        raise InvalidInput(
            "invalid_title",
            f"{quoted(typed)} is not a valid title: {reason}.",
            hint=f"A title is one line of 1 to {MAX_TITLE_CHARACTERS} characters;"
            " [ and ] may only enclose a jira id in front of it, as in [POPUG-7] Feed the cage.",
            details={"reason": reason},
        )


def _title_flaws(title: str) -> Iterator[str]:
    if len(title) > MAX_TITLE_CHARACTERS:
        yield f"it has {len(title)} characters, but at most {MAX_TITLE_CHARACTERS} are allowed"
    if is_blank(title):
        yield "it has no visible character"
    if unicodedata.category(title[:1] or " ").startswith("M"):
        yield "it begins with a combining mark, which belongs on a character before it"
    if not is_storable(title):
        yield "it has bytes that are not valid UTF-8"
    if any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in title):
        yield "it has a line break or another control character"
    if "[" in title or "]" in title:
        yield "it has a bracket that does not enclose a jira id in front"
    if _JIRA_ID_BEFORE_DASH.fullmatch(title):
        yield "it has two jira ids"
