"""The log: one record a line as text or JSON, without secrets, and nothing ends if it cannot be written."""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel import log
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.log import ACCESS_LOG, LOG
from popug_cli.kernel.settings import SETTINGS, Settings

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJrZXNoYSJ9.c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU"
PASSWORD_HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
FORGED = "all is well\n2026-11-30T00:00:00Z error: forged\x1b[2J \u202e \x7f \x85"
BUSY = Unavailable("database_busy", "The database is busy.", hint="Try again.", details={"wait_seconds": 3})


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the loggers after each test."""
    root, loggers = logging.getLogger(), [LOG, ACCESS_LOG, *map(logging.getLogger, log.QUIET_LIBRARIES)]
    handlers, levels, hook = [*root.handlers], [logger.level for logger in loggers], threading.excepthook
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


DEFAULTS = Settings({key: setting.default for key, setting in SETTINGS.items()}, {})


def written(as_json: bool = False, **chosen: Any) -> io.StringIO:
    """Configure the log with these settings, and return the stream it is written to."""
    stream = io.StringIO()
    values = {f"log.{name}": value for name, value in chosen.items()}
    log.configure(Settings({**DEFAULTS.values, **values}, {}), as_json=as_json, stream=stream)
    return stream


def test_text_record_has_time_level_and_sentence() -> None:
    stream = written()
    LOG.warning("kesha is locked out for %d s.", 30)
    time, rest = stream.getvalue().split(" ", 1)
    assert (time[-1], len(time), rest) == ("Z", 20, "warning: kesha is locked out for 30 s.\n")


def test_json_record_has_its_values() -> None:
    stream = written(format="json")
    LOG.info("kesha logged in.", extra={"user": "kesha", "seconds": 0.5, "level": "forged"})
    record = json.loads(stream.getvalue())
    assert record.pop("time").endswith("+00:00")
    values = {"user": "kesha", "seconds": 0.5, "process": os.getpid()}
    assert record == values | {"level": "info", "logger": "popug", "message": "kesha logged in."}


@pytest.mark.parametrize("as_json", [False, True])
def test_error_in_json_has_code_hint_and_details(as_json: bool) -> None:
    stream = written(format="json", as_json=as_json)
    log.log_error(BUSY)
    error = {"code": "database_busy", "message": BUSY.message, "hint": BUSY.hint, "details": {"wait_seconds": 3}}
    assert json.loads(stream.getvalue())["error"] == error


def test_error_in_text_has_its_hint_on_a_second_line() -> None:
    stream = written()
    log.log_error(BUSY)
    assert stream.getvalue().partition(" ")[2] == "error: The database is busy.\n  Try again.\n"


def test_error_in_text_with_json_option_is_its_document() -> None:
    stream = written(as_json=True)
    log.log_error(BUSY)
    LOG.warning("slow")
    error, warning = stream.getvalue().splitlines()
    assert json.loads(error)["error"]["code"] == "database_busy"
    assert warning.endswith("Z warning: slow")


@pytest.mark.parametrize("format_", ["text", "json"])
def test_text_from_people_makes_no_line_and_no_control(format_: str) -> None:
    stream = written(format=format_)
    LOG.warning("The hook said %s", FORGED, extra={"title": FORGED})
    log.log_error(Unavailable("database_busy", FORGED, hint=FORGED))
    text = stream.getvalue()
    assert not {"\x1b", "\u202e", "\x7f", "\x85"} & set(text)
    assert not any(line.startswith("2026-11-30T00:00:00Z error: forged") for line in text.splitlines())
    if format_ == "json":
        first, second = map(json.loads, text.splitlines())
        assert (first["title"], second["error"]["hint"]) == (FORGED, FORGED)


def test_bytes_that_are_not_utf_8_are_escaped() -> None:
    record = logging.makeLogRecord({"msg": "\ud800", "levelname": "INFO"})
    assert log.TextFormatter(shows_time=False).format(record) == "info: \\ud800"
    assert json.loads(log.JsonFormatter().format(record))["message"] == "\ud800"


def test_traceback_cannot_forge_a_record() -> None:
    stream = written()
    try:
        raise ValueError(FORGED)
    except ValueError:
        LOG.exception("It failed.")
    first, *others = stream.getvalue().splitlines()
    assert first.endswith("error: It failed.")
    assert others
    assert all(line.startswith("  ") for line in others)


@pytest.mark.parametrize("format_", ["text", "json"])
@pytest.mark.parametrize("secret", [TOKEN, TOKEN.rpartition(".")[0], PASSWORD_HASH])
def test_token_and_password_hash_are_hidden(secret: str, format_: str) -> None:
    stream = written(format=format_)
    LOG.warning("Bearer %s is not valid.", secret, extra={"header": f"Bearer {secret}"})
    log.log_error(Unavailable("database_busy", secret, hint=secret, details={"token": secret}))
    try:
        raise ValueError(secret)
    except ValueError:
        LOG.exception("It failed.")
    assert secret not in stream.getvalue()
    assert log.REDACTED in stream.getvalue()


def test_report_is_in_json_log_only() -> None:
    text = written()
    LOG.info("Serving.", extra={"report": True})
    in_json = written(format="json")
    LOG.info("Serving.", extra={"report": True})
    assert (text.getvalue(), json.loads(in_json.getvalue())["message"]) == ("", "Serving.")


def test_access_log_is_written_only_by_its_setting() -> None:
    quiet = written()
    ACCESS_LOG.info("GET /healthz")
    chosen = written(access=True)
    ACCESS_LOG.info("GET /healthz")
    assert (quiet.getvalue(), chosen.getvalue().endswith("info: GET /healthz\n")) == ("", True)


def test_full_disk_loses_records() -> None:
    with Path("/dev/full").open("w") as full:
        log.configure(DEFAULTS, stream=full)
        LOG.warning("lost")
        full.flush()  # nothing is left that fails at the exit of the process


def test_log_continues_after_a_failed_record() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as read_end:
        log.configure(DEFAULTS, stream=stream)
        while _can_write(writer):
            pass
        LOG.warning("lost")
        os.read(reader, 1024 * 1024)
        LOG.warning("written")
        stream.close()
        assert read_end.read().endswith(b"warning: written\n")


def _can_write(descriptor: int) -> bool:
    try:
        return bool(os.write(descriptor, b" "))
    except BlockingIOError:
        return False


def test_closed_stream_loses_records() -> None:
    stream = written()
    stream.close()
    LOG.warning("lost")


def test_error_of_a_thread_is_one_json_record() -> None:
    stream = written(format="json")
    thread = threading.Thread(target=lambda: 1 / 0, name="popug-follow")
    thread.start()
    thread.join()
    record = json.loads(stream.getvalue())
    assert (record["level"], "popug-follow" in record["message"]) == ("critical", True)
    assert "ZeroDivisionError" in record["traceback"]


def test_warning_of_a_library_is_in_the_log() -> None:
    stream = written(format="json")
    logging.getLogger("asyncio").warning("slow")
    logging.getLogger("uvicorn.error").error("Invalid HTTP request received.")
    assert [json.loads(line)["logger"] for line in stream.getvalue().splitlines()] == ["asyncio"]


def test_log_stream_is_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(DEFAULTS)
    LOG.warning("on stderr")
    assert capsys.readouterr().err.endswith("on stderr\n")


def test_request_error_shows_type_and_place_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POPUG_TRACEBACK", raising=False)
    stream = written()
    log.log_failed_request(_failure("hunter2"))
    assert "KeyError in " in stream.getvalue()
    assert f"{Path(__file__).name}, line " in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("format_", ["text", "json"])
def test_traceback_of_request_error_has_no_text(monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    monkeypatch.setenv("POPUG_TRACEBACK", "1")
    stream = written(format=format_)
    log.log_failed_request(_failure("hunter2"))
    assert "KeyError" in stream.getvalue()
    assert "in _failure" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def _failure(password: str) -> Exception:
    """Return an error that quotes a password, raised from another one."""
    try:
        try:
            int(password)
        except ValueError as error:
            raise KeyError(password) from error
    except KeyError as error:
        return error
    raise AssertionError
