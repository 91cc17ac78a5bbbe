"""The command line as a whole, and the one place where errors become exit codes."""

import io
import os
import signal
import sys
from typing import IO, Annotated, Any

import typer
from typer._click import exceptions as click  # Typer 0.28 carries a click of its own

from popug_cli.cli.face import Chosen, HomeOption, JsonOption
from popug_cli.cli.render import Printer
from popug_cli.kernel.errors import InvalidInput, OwnFault, PopugError, Unavailable

INTERRUPTED = 130


def build() -> Any:
    """The whole program as one click command."""
    from popug_cli.cli import (
        analytics,
        backup,
        company,
        demo,
        events,
        explain,
        ledger,
        mail,
        money,
        scheduler,
        session,
        task,
        tasks,
        token,
        user,
    )

    program = typer.Typer(
        name="popug",
        help="popug: chance assigns the chores, every day is settled.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback()(_callback)
    for part in (
        session,
        task,
        tasks,
        money,
        scheduler,
        ledger,
        explain,
        analytics,
        user,
        token,
        mail,
        events,
        company,
        backup,
        demo,
    ):
        part.register(program)
    return typer.main.get_command(program)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"popug {version('popug')}\n")
        raise typer.Exit


def _callback(
    context: typer.Context,
    as_json: JsonOption = False,
    home: HomeOption = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    context.obj = context.obj or Chosen(home, as_json)


def run(arguments: list[str], program: Any = None) -> int:
    """Run one command line, with a program that was built before or a new one; the exit code comes back."""
    os.umask(0o077)
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    try:
        code = _run(arguments, program or build())
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich leaves by SystemExit when stdout is closed; nothing else does
        code = _closed(sys.stdout)
    except (KeyboardInterrupt, typer.Abort):
        code = _interrupted()
    except PopugError as error:
        code = _fail(error, as_json=as_json)
    except Exception as error:
        code = _fail(_unwritable(error) or _own_fault(error), as_json=as_json)
    return code


def _open_closed_streams() -> None:
    """Python has None for a stream that was closed before it began; what is written there is for nobody."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open to the end


def _run(arguments: list[str], program: Any) -> int:
    try:
        result = program.main(args=arguments, prog_name="popug", standalone_mode=False)
    except click.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        return 0
    except click.ClickException as error:
        raise _usage(error) from error
    return result if isinstance(result, int) else 0


def _fail(error: PopugError, *, as_json: bool) -> int:
    try:
        Printer().error(error, as_json=as_json)
    except BrokenPipeError:
        _closed(sys.stderr)
    return error.exit_status


def _closed(stream: IO[str]) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 0


def _unwritable(error: Exception) -> PopugError | None:
    """The refusal of stdout to take the answer, which has no file name; None for every other error."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    _closed(sys.stdout)
    sentence = f"The answer could not be written ({error.strerror}); what was asked for may have been done."
    return Unavailable("in_doubt", sentence, hint="Look with another command before you repeat it.")


def _interrupted() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stderr.write("\nInterrupted; nothing was left half done.\n")
    return INTERRUPTED


def _usage(error: click.ClickException) -> InvalidInput:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "popug"
    return InvalidInput("usage", error.format_message(), hint=f"Run `{path} --help` for what it takes.")


def _own_fault(error: Exception) -> PopugError:
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return InvalidInput(
            "usage", f"{error.object!r} holds bytes that are no text in UTF-8.", hint="Write it in UTF-8."
        )
    if os.environ.get("POPUG_TRACEBACK"):
        from traceback import format_exception

        Printer().trace("".join(format_exception(error)))
    return OwnFault(
        "internal",
        f"popug failed by a fault of its own ({type(error).__name__}: {error}).",
        hint="Run it again with POPUG_TRACEBACK=1 to see where, and report that.",
    )
