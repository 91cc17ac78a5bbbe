"""The log of a server or a scheduler: the logger ``popug``, one record a line on stderr, as text or JSON.

A module writes ``LOG.warning("a sentence")``, and gives values for programs with ``extra={"name": value}``: they
become keys of the JSON record. Text from people is escaped, and what looks like a token or a password hash is hidden.
"""

import json
import logging
import os
import re
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from traceback import extract_tb, format_tb
from typing import Any, TextIO

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings
from popug_cli.kernel.text import escape_hidden, escape_hidden_json

LOG = logging.getLogger("popug")
ACCESS_LOG = logging.getLogger("popug.access")
QUIET_LIBRARIES = ("uvicorn", "apscheduler")  # popug reports their errors to the client, or raises them
REDACTED = "(hidden)"
MAX_TRACEBACKS = 10
_SECRETS = re.compile(r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?|\$argon2[\w$=,+/]+")  # a JSON Web Token, a password hash
_STANDARD_ATTRIBUTES = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "report", "error"}


class SafeFormatter(logging.Formatter):
    """Format a traceback without the text of the errors in it, because an error may quote a password."""

    def formatException(self, exc_info: Any) -> str:  # noqa: N802 - the name is logging's
        """Return the tracebacks of an error and of its chain of causes, the original cause first."""
        parts: list[str] = []
        error: BaseException | None = exc_info[1]
        while error is not None and len(parts) < MAX_TRACEBACKS:
            parts.insert(0, "".join(format_tb(error.__traceback__)) + _describe(error))
            error = error.__cause__
        return "\n".join(parts)


class TextFormatter(SafeFormatter):
    """Format a record as ``TIME LEVEL: SENTENCE``; further lines, such as a traceback, are indented.

    Without ``shows_time`` the line begins with the level, for a terminal.
    """

    def __init__(self, *, shows_time: bool) -> None:
        super().__init__()
        self._shows_time = shows_time

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        time = f"{_time(record):%Y-%m-%dT%H:%M:%SZ} " if self._shows_time else ""
        error = _error_of(record)
        further_lines = [error.hint] if error and error.hint else []
        if record.exc_info:
            further_lines += self.formatException(record.exc_info).splitlines()
        lines = [f"{time}{record.levelname.lower()}: {record.getMessage()}", *further_lines]
        return _hide_secrets("\n  ".join(map(escape_hidden, lines)))


class JsonFormatter(SafeFormatter):
    """Format a record as one JSON object in ASCII: its time, level, logger, process id, message and own values."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        document: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        own_names = vars(record).keys() - _STANDARD_ATTRIBUTES - document.keys()
        document |= {name: value for name, value in vars(record).items() if name in own_names}
        if error := _error_of(record):
            document["error"] = _error_document(error)
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return _hide_secrets(_to_json(document))


class ErrorDocumentFormatter(TextFormatter):
    """Format an error as the JSON document that ``--json`` promises, and other records as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON or as text."""
        error = _error_of(record)
        return _hide_secrets(_to_json({"error": _error_document(error)})) if error else super().format(record)


class LogHandler(logging.Handler):
    """Write records to a stream. A record that cannot be written is lost, and the program goes on.

    In text, records that the command has printed already (``report``) are left out.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if hasattr(record, "report") and not isinstance(self.formatter, JsonFormatter):
            return
        # a full disk, a reader that has gone, a closed stream; or values that do not fit the sentence
        with suppress(OSError, ValueError, TypeError):
            _write_line(self._stream, self.format(record))


def configure(settings: Settings, *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Begin to write the log of this process to ``stream``, by default stderr, in the format of ``log.format``.

    With ``as_json`` the errors of a text log are JSON documents. Errors that end a thread are logged as well.
    """
    stream = stream or sys.stderr
    handler = LogHandler(stream, _formatter(settings.text("log.format"), stream, as_json=as_json))
    root = logging.getLogger()
    for previous in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    LOG.setLevel(logging.INFO)
    ACCESS_LOG.setLevel(logging.INFO if settings.flag("log.access") else logging.WARNING)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    threading.excepthook = _log_thread_error


def log_error(error: PopugError) -> None:
    """Log an error with its hint; a JSON log has its code and details, too."""
    LOG.error(error.message, extra={"error": error})


def log_failed_request(error: Exception) -> None:
    """Log an internal error or damaged data with its line; if ``POPUG_TRACEBACK`` is set, with its traceback."""
    if os.environ.get("POPUG_TRACEBACK"):
        LOG.error("A request failed (%s).", _describe(error), exc_info=error)
    else:
        LOG.error("A request failed (%s%s); POPUG_TRACEBACK=1 shows the traceback.", _describe(error), _place(error))


class WarnOnce:
    """Log a warning, unless it is one of the last ``memory`` different warnings."""

    def __init__(self, memory: int) -> None:
        self._recent: deque[str] = deque(maxlen=memory)

    def __call__(self, sentence: str) -> None:
        """Log the sentence as a warning, unless it was logged recently."""
        if sentence not in self._recent:
            self._recent.append(sentence)
            LOG.warning(sentence)


def _formatter(name: str, stream: TextIO, *, as_json: bool) -> logging.Formatter:
    if name == "json":
        return JsonFormatter()
    formatter_class = ErrorDocumentFormatter if as_json else TextFormatter
    return formatter_class(shows_time=not stream.isatty())


def _write_line(stream: TextIO, line: str) -> None:
    """Write a line at once. A stream's buffer would keep a line that failed, and fail again when Python exits."""
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        stream.write(f"{line}\n")
        return
    os.write(descriptor, f"{line}\n".encode(stream.encoding, "backslashreplace"))


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _error_of(record: logging.LogRecord) -> PopugError | None:
    error = getattr(record, "error", None)
    return error if isinstance(error, PopugError) else None


def _error_document(error: PopugError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}


def _to_json(document: dict[str, Any]) -> str:
    return escape_hidden_json(json.dumps(document, default=str, skipkeys=True))


def _describe(error: BaseException) -> str:
    """Return the type of an error, and its text only if that cannot quote a request."""
    text = error.strerror if isinstance(error, OSError) else error.message if isinstance(error, PopugError) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: Exception) -> str:
    """Return where an error was raised, as `` in FILE, line NUMBER``."""
    frames = extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _hide_secrets(line: str) -> str:
    return _SECRETS.sub(REDACTED, line)


def _log_thread_error(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        name = failure.thread.name if failure.thread else "?"
        cause = (failure.exc_type, failure.exc_value, failure.exc_traceback)
        LOG.critical("The thread %s ended because of an error.", name, exc_info=cause)
