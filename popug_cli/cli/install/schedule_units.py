"""Cron lines and systemd units that close each day, and their installation."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.kernel.home import Home, find_home, is_default_home, no_home_directory
from popug_cli.platform.files import replace_file

DEFAULT_UNIT_NAME = "popug-close-day"
CLOSE_COMMAND = ("close-day", "--date", "yesterday")
CRONTAB_TIMEOUT_SECONDS = 30
UNKNOWN_HOME_DIRECTORY = "~"
SECOND_RUN_AFTER_HOURS = 3  # longer than any DST gap: the longest is two hours, at Antarctica/Troll


@dataclass(frozen=True, slots=True)
class CloseSchedule:
    """The time at which a home's days are closed: ``at_minute`` counts from midnight, in the company's time zone.

    ``machine_zone`` is None if it is not known.
    """

    home: Home
    at_minute: int
    company_zone: str
    machine_zone: str | None

    @property
    def name(self) -> str:
        """The name of the unit, unique for each home and independent of how the home was chosen."""
        if is_default_home(self.home):
            return DEFAULT_UNIT_NAME
        return f"{DEFAULT_UNIT_NAME}-{sha256(str(self.home.root).encode()).hexdigest()[:8]}"

    @property
    def token_file(self) -> str:
        """The path of this home's token file, for a shell."""
        return f"~/.config/popug/{self.name.removeprefix('popug-')}.token"


@dataclass(frozen=True, slots=True)
class CronPlan:
    """A line for the crontab, and the comment above it.

    ``write`` finds an installed line by its comment and the ``command_suffix`` at its end. ``token_command`` is the
    command line that creates the token file.
    """

    comment: str
    line: str
    command_suffix: str
    token_command: str

    def texts(self) -> Iterator[str]:
        """Yield the texts to install."""
        yield self.comment
        yield self.line

    def hints(self, *, written: bool) -> Iterator[str]:
        """Yield the steps that are left to the user."""
        yield f"Create its token: {self.token_command}"
        yield "It is in your crontab." if written else "Add it with `crontab -e`, or run this again with --write."

    def answer(self, *, written: bool) -> dict[str, Any]:
        """Return the answer for ``--json``."""
        return {"kind": "cron", "written": written, "line": self.line}

    def write(self) -> None:
        """Write the line to the user's crontab. It replaces an earlier line of the same home; other lines are kept.

        Raise ``no_crontab``.
        """
        lines = _split_lines(_run_crontab("-l", allow_missing=True))
        positions = [position for position, pair in enumerate(pairwise(lines)) if self._is_installed_line(*pair)]
        position = positions[0] if positions else len(lines)
        lines[position : position + 2] = [text.encode() for text in self.texts()]
        _run_crontab("-", content=b"".join(line + b"\n" for line in lines))

    def _is_installed_line(self, comment: bytes, line: bytes) -> bool:
        is_popug_comment = comment.decode(errors="replace") in {self.comment, f"# {DEFAULT_UNIT_NAME}"}
        return is_popug_comment and not line.lstrip().startswith(b"#") and line.endswith(self.command_suffix.encode())


@dataclass(frozen=True, slots=True)
class SystemdPlan:
    """A service and a timer for the user's systemd; ``files`` maps names to contents."""

    folder: Path
    files: dict[str, str]
    timer: str

    def texts(self) -> Iterator[str]:
        """Yield the texts to install."""
        for name, content in self.files.items():
            yield f"# {self.folder / name}\n{content}"

    def hints(self, *, written: bool) -> Iterator[str]:
        """Yield the steps that are left to the user."""
        if not written:
            yield "Run this again with --write to put both files there, then:"
        yield f"systemctl --user daemon-reload && systemctl --user enable --now {self.timer}"
        yield "To run it while you are logged out: loginctl enable-linger"

    def answer(self, *, written: bool) -> dict[str, Any]:
        """Return the answer for ``--json``."""
        return {"kind": "systemd", "written": written, "folder": str(self.folder), "files": self.files}

    def write(self) -> None:
        """Write both files to the directory of the user's systemd units; raise ``read_only``, ``no_home_directory``."""
        if UNKNOWN_HOME_DIRECTORY in self.folder.parts:
            raise no_home_directory()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                replace_file(self.folder / name, content.encode())
        except OSError as error:
            raise Unavailable(
                "read_only",
                f"{self.folder} cannot be written: {error.strerror}.",
                hint="Leave --write out and create the files by hand.",
            ) from error


def cron_plan(schedule: CloseSchedule) -> CronPlan:
    """Return a cron line that closes all days up to yesterday; raise ``usage`` for an unprintable path.

    If cron's time zone is not the company's, the line runs every hour and checks the company's time itself.
    """
    hour, minute = divmod(schedule.at_minute, 60)
    when = f"{minute} {hour} * * *  "
    if schedule.company_zone != schedule.machine_zone:
        when = f"{_minutes_of_machine_hour(schedule)} * * * *  {_time_reached_test(schedule)} && "
    command = _quote_for_cron([*program_of(schedule.home), *CLOSE_COMMAND])
    return CronPlan(
        comment=f"# {schedule.name}",
        line=f'{when}POPUG_TOKEN="$(cat {schedule.token_file})" {command}',
        command_suffix=f" {_quote_for_cron([*_home_option(schedule.home), *CLOSE_COMMAND])}",
        token_command=_token_command(schedule),
    )


def _minutes_of_machine_hour(schedule: CloseSchedule) -> str:
    """Return the minutes of an hour, on the machine's clock, at which the company's clock shows the scheduled minute.

    There are two if the difference of the zones' offsets is another fraction of an hour in winter than in summer. An
    unknown zone of the machine counts as whole hours away.
    """
    if schedule.machine_zone is None:
        return str(schedule.at_minute % 60)
    year = datetime.now(UTC).year
    seasons = [datetime(year, month, 1, tzinfo=UTC) for month in (1, 7)]
    company, machine = (Calendar(name) for name in (schedule.company_zone, schedule.machine_zone))
    offset_differences = [_offset_minutes(company, season) - _offset_minutes(machine, season) for season in seasons]
    return ",".join(
        str(minute) for minute in sorted({(schedule.at_minute - offset) % 60 for offset in offset_differences})
    )


def _offset_minutes(calendar: Calendar, instant: datetime) -> int:
    offset = calendar.local(instant).utcoffset() or timedelta(0)
    return offset // timedelta(minutes=1)


def _time_reached_test(schedule: CloseSchedule) -> str:
    hour, minute = divmod(schedule.at_minute, 60)
    return f'[ "$(TZ={schedule.company_zone} date +\\%H\\%M)" -ge {hour:02}{minute:02} ]'


def _quote_for_cron(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words).replace("%", "\\%")


def _token_command(schedule: CloseSchedule) -> str:
    """Return the command line that creates the token file; it names the home unless that is the default."""
    is_found = is_default_home(schedule.home) and schedule.home == find_home(None)
    popug = "popug" if is_found else f"popug --home {shlex.quote(str(schedule.home.root))}"
    return f"{popug} token issue NAME --ttl 365d --scope close-day | head -1 > {schedule.token_file}"


def systemd_plan(schedule: CloseSchedule) -> SystemdPlan:
    """Return a service that closes due days and sends mail, and a timer that catches up if missed; raise ``usage``.

    The timer fires a second time some hours later, because on the night of a DST change its hour may not exist.
    """
    from platformdirs import user_config_path

    times = [_clock_text(schedule.at_minute + 60 * hours) for hours in (0, SECOND_RUN_AFTER_HOURS)]
    words = [*program_of(schedule.home), "scheduler", "--once", "--at", times[0]]
    command = " ".join(quote_for_unit(word) for word in words)
    service = (
        "[Unit]\nDescription=Close the days of popug up to yesterday and send its mail\n\n"
        f"[Service]\nType=oneshot\nExecStart={command}\nUMask=0077\n"
    )
    calendar_lines = "".join(f"OnCalendar=*-*-* {time}:00 {schedule.company_zone}\n" for time in times)
    timer = (
        "[Unit]\nDescription=Close the days of popug every night\n\n"
        f"[Timer]\n{calendar_lines}Persistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    files = {f"{schedule.name}.service": service, f"{schedule.name}.timer": timer}
    try:
        folder = user_config_path() / "systemd" / "user"
    except RuntimeError:  # this account has no home directory
        folder = Path(UNKNOWN_HOME_DIRECTORY) / ".config" / "systemd" / "user"
    return SystemdPlan(folder, files, f"{schedule.name}.timer")


def _clock_text(minute: int) -> str:
    return "{:02}:{:02}".format(*divmod(minute % 1440, 60))


def program_of(home: Home) -> list[str]:
    """Return the command line that runs this program for this home; raise ``usage`` for unprintable characters."""
    words = [*_program_words(), *_home_option(home)]
    if any(not character.isprintable() for word in words for character in word):
        raise InvalidInput(
            "usage", f"{home.root!s} cannot be written to such a file.", hint="Move the home to another path."
        )
    return words


def _home_option(home: Home) -> list[str]:
    return ["--home", str(home.root)]


def program_next_to_python() -> Path | None:
    """Return the path of ``popug`` next to this Python, or None if it is not installed there."""
    program = Path(sys.executable).with_name("popug")
    return program if program.is_file() else None


def _program_words() -> list[str]:
    program = program_next_to_python()
    return [str(program)] if program else [sys.executable, "-m", "popug_cli"]


def quote_for_unit(word: str) -> str:
    """Quote a word for a unit file, where ``%`` and ``$`` have a meaning."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(character in word for character in " '\t;") else word


def _split_lines(table: bytes) -> list[bytes]:
    """Split a crontab into lines, at line feeds only."""
    return table.removesuffix(b"\n").split(b"\n") if table else []


def _run_crontab(argument: str, *, content: bytes = b"", allow_missing: bool = False) -> bytes:
    """Run ``crontab`` and return its output; raise ``no_crontab``.

    With ``allow_missing``, return empty bytes for a user without a crontab.
    """
    try:
        process = subprocess.run(  # noqa: S603 - a fixed command, without a shell
            ["crontab", argument],  # noqa: S607 - PATH says where it is installed
            input=content,
            capture_output=True,
            timeout=CRONTAB_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _crontab_error(str(error)) from error
    if process.returncode and not (allow_missing and _says_no_crontab(process.stderr.lower())):
        stderr_text = process.stderr.decode(errors="replace").strip()
        raise _crontab_error(stderr_text or f"`crontab {argument}` ended with exit status {process.returncode}")
    return process.stdout if not process.returncode else b""


def _says_no_crontab(message: bytes) -> bool:
    """Return whether ``crontab -l`` failed because the user has no crontab; BusyBox reports a missing file."""
    return b"no crontab" in message or (b"can't open" in message and b"no such file" in message)


def _crontab_error(reason: str) -> Unavailable:
    return Unavailable(
        "no_crontab", f"The crontab cannot be used: {reason}.", hint="Leave --write out and add the line by hand."
    )
