"""Run a command line, and turn every error into a sentence and an exit code."""

import codecs
import errno
import io
import os
import signal
import sys
from typing import IO, TYPE_CHECKING, Any

from popug_cli.cli.help import fast_path
from popug_cli.kernel.errors import InternalError, InvalidInput, PopugError, Unavailable
from popug_cli.kernel.text import ascii_fallback
from popug_cli.platform import signals

if TYPE_CHECKING:
    from typer._click import exceptions as click

INTERRUPTED_STATUS = 130
INTERNAL_HINT = "Run it again with POPUG_TRACEBACK=1 to see the traceback, and report it."
NO_THREAD_MESSAGE = "can't start new thread"  # the text of Python's RuntimeError
NO_HOME_MESSAGE = "ome directory"  # of a RuntimeError of pathlib
NO_MEMORY_MESSAGE = "failed to map segment"  # the loader's text if there is no memory for a library


def run(arguments: list[str], program: Any = None) -> int:
    """Run one command line and return its exit status; print an error as a sentence or, with ``--json``, as JSON.

    ``program`` is the result of an earlier ``build``; by default, build a new one. Raise ``Terminated`` after a
    terminating signal.
    """
    os.umask(0o077)
    _open_closed_streams()
    codecs.register_error("ascii_fallback", ascii_fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ascii_fallback")
    as_json = "--json" in arguments
    try:
        exit_status = _run_program(arguments, program)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # only Rich raises SystemExit, when stdout is closed
        exit_status = _redirect_to_devnull(sys.stdout)
    except KeyboardInterrupt as error:
        exit_status = _report_interrupt(error)
    except PopugError as error:
        _print_traceback(error.__cause__)
        exit_status = _print_error(error, as_json=as_json)
    except Exception as error:
        interrupt = signals.find_interrupt(error)
        if isinstance(interrupt, signals.Terminated):
            raise interrupt from None
        exit_status = (
            _report_interrupt(interrupt)
            if interrupt
            else _print_error(_failed_write_error(error) or _unexpected_error(error), as_json=as_json)
        )
    _discard_unwritable(sys.stderr)
    return exit_status


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that was closed before Python started, because Python sets it to None."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: PTH123, SIM115 - it stays open until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open until the process ends


def _run_program(arguments: list[str], program: Any) -> int:
    """Run a command line; raise its errors. Without ``program``, try the fast path first."""
    if program is None and (exit_status := fast_path.try_answer(arguments)) is not None:
        return exit_status
    import typer
    from typer._click import exceptions as click  # Typer 0.28 contains its own copy of click

    from popug_cli.cli.program import build

    try:
        program = program or build()
        # not ``program.main``, which would handle an interrupt itself
        with program.make_context("popug", [*arguments]) as context:
            result = program.invoke(context)
    except typer.Exit as exit_request:
        return int(exit_request.exit_code)
    except click.NoArgsIsHelpError as error:
        path = error.ctx.command_path if error.ctx else "popug"
        fast_path.show_help(path.partition(" ")[2], plain="--plain" in arguments)
        return 0
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except click.ClickException as error:
        raise _usage_error(error, arguments) from error
    return result if isinstance(result, int) else 0


def _print_error(error: PopugError, *, as_json: bool) -> int:
    """Print an error to stderr and return its exit status."""
    from popug_cli.cli.output.printer import Printer

    try:
        Printer().error(error, as_json=as_json)
        sys.stderr.flush()
    except OSError:  # the reader has gone, or the disk of the file is full
        _redirect_to_devnull(sys.stderr)
    return error.exit_status


def _discard_unwritable(stream: IO[str]) -> None:
    """Discard what a stream still holds if its reader has gone, as the terminal of a dashboard may have."""
    try:
        stream.flush()
    except OSError:
        _redirect_to_devnull(stream)


def _redirect_to_devnull(stream: IO[str]) -> int:
    """Redirect a stream that cannot be written to /dev/null, so that Python's flush at exit succeeds; return 0."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 0


def _failed_write_error(error: Exception) -> PopugError | None:
    """Return the error to print for a failed write to stdout, which has no file name; None for other errors.

    All later output to stdout is discarded. Another error without a file name is that of a deleted current directory.
    """
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    if error.errno == errno.ENOENT:  # only ``os.getcwd`` raises it without a file name
        from popug_cli.kernel.disk_errors import current_directory_deleted

        return current_directory_deleted()
    _redirect_to_devnull(sys.stdout)
    sentence = f"The answer could not be written ({error.strerror}); the command may have been carried out."
    return Unavailable("in_doubt", sentence, hint="Check with another command before you repeat it.")


def _report_interrupt(interrupt: BaseException) -> int:
    """Say on stderr that the command was interrupted, ignore further Ctrl-C, and return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sys.stderr.write(f"\nInterrupted; {signals.interrupt_message(interrupt) or 'nothing was left half done.'}\n")
        sys.stderr.flush()
    except OSError:
        _redirect_to_devnull(sys.stderr)
    return INTERRUPTED_STATUS


def _usage_error(error: "click.ClickException", arguments: list[str]) -> InvalidInput:
    """Return the error for a wrong command line; its hint suggests words, ``--`` or an example."""
    from popug_cli.cli.help.suggestions import (
        suggest_choices,
        suggest_commands,
        suggest_double_dash,
        suggest_examples,
    )

    context = getattr(error, "ctx", None)
    path = context.command_path if context else "popug"
    message = error.format_message()
    # the error is about the whole command line, not about one value or word
    is_about_whole_line = type(error).__name__ in {"MissingParameter", "UsageError"}
    suggestion = (
        suggest_double_dash(error, arguments)
        or suggest_choices(message)
        or suggest_commands(message)
        or (suggest_examples(path) if is_about_whole_line else "")
    )
    return InvalidInput("usage", message, hint=f"{suggestion}Run `{path} --help` for its arguments and options.")


def _unexpected_error(error: Exception) -> PopugError:
    """Return the error to print for an exception that no command translated.

    That is ``usage`` for bytes that are not UTF-8, an environment error for a lack of threads or memory and for other
    operating system errors, ``no_home_directory`` for a ``~`` that cannot be expanded, else ``internal``.
    """
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return InvalidInput(
            "usage", f"{error.object!r} contains bytes that are not valid UTF-8.", hint="Write it in UTF-8."
        )
    _print_traceback(error)
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD_MESSAGE:
        error = OSError(errno.EAGAIN, NO_THREAD_MESSAGE)
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and NO_MEMORY_MESSAGE in str(error)):
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if isinstance(error, RuntimeError) and NO_HOME_MESSAGE in str(error):
        sentence = "A path needs a home directory, and that of this account or of the one after ~ is not known."
        return InvalidInput("no_home_directory", sentence, hint="Set HOME, or write the path without ~.")
    if isinstance(error, OSError):
        from popug_cli.kernel.disk_errors import from_os_error

        if environment_error := from_os_error(error, error.filename or "This machine"):
            return environment_error
    return InternalError(
        "internal",
        f"popug failed with an internal error ({type(error).__name__}: {error}).",
        hint=" ".join([*getattr(error, "__notes__", []), INTERNAL_HINT]),
    )


def _print_traceback(error: BaseException | None) -> None:
    """Print the traceback of an error if ``POPUG_TRACEBACK`` is set."""
    if error is not None and os.environ.get("POPUG_TRACEBACK"):
        from traceback import format_exception

        from popug_cli.cli.output.printer import Printer

        Printer().traceback("".join(format_exception(error)))
