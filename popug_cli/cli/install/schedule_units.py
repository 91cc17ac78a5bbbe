"""What has cron or systemd close each day: the texts, and where they are written."""

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
from popug_cli.kernel.home import Home, default_home, find_home
from popug_cli.platform.files import replace_file

UNIT = "popug-close-day"
CLOSE_COMMAND = ("close-day", "--date", "yesterday")
CRONTAB_TIMEOUT_SECONDS = 30
SECOND_RUN_AFTER_HOURS = 3  # no zone leaves out so much of a night: the most is two, at Antarctica/Troll


@dataclass(frozen=True, slots=True)
class CloseSchedule:
    """What is to happen: this home's days are closed at a minute of the day in the company's zone."""

    home: Home
    at_minute: int
    company_zone: str
    machine_zone: str

    @property
    def name(self) -> str:
        """A name for it that no other home has, however the home was chosen."""
        if self.home == default_home():
            return UNIT
        return f"{UNIT}-{sha256(str(self.home.root).encode()).hexdigest()[:8]}"

    @property
    def token_file(self) -> str:
        """Where a shell finds the token of this home."""
        return f"~/.config/popug/{self.name.removeprefix('popug-')}.token"


@dataclass(frozen=True, slots=True)
class CronPlan:
    """A line for the crontab; it is found again by the comment above it and the ``call`` of this home at its end."""

    comment: str
    line: str
    call: str
    token_command: str

    def texts(self) -> Iterator[str]:
        """What is installed."""
        yield self.comment
        yield self.line

    def hints(self, *, written: bool) -> Iterator[str]:
        """What else is to be done."""
        yield f"Make its token: {self.token_command}"
        yield "It stands in your crontab." if written else "Add it with `crontab -e`, or run this again with --write."

    def answer(self, *, written: bool) -> dict[str, Any]:
        """The same for programs."""
        return {"kind": "cron", "written": written, "line": self.line}

    def write(self) -> None:
        """Put it into the user's crontab, in the place of an earlier one of the same home; all else stays as it is."""
        lines = _split_lines(_crontab("-l", missing_is_empty=True))
        positions = [position for position, pair in enumerate(pairwise(lines)) if self._is_line_of_home(*pair)]
        position = positions[0] if positions else len(lines)
        lines[position : position + 2] = [text.encode() for text in self.texts()]
        _crontab("-", content=b"".join(line + b"\n" for line in lines))

    def _is_line_of_home(self, comment: bytes, line: bytes) -> bool:
        is_ours = comment.decode(errors="replace") in {self.comment, f"# {UNIT}"}
        return is_ours and not line.lstrip().startswith(b"#") and line.endswith(self.call.encode())


@dataclass(frozen=True, slots=True)
class SystemdPlan:
    """A service and a timer of the user's systemd; ``files`` are their contents by name."""

    folder: Path
    files: dict[str, str]
    timer: str

    def texts(self) -> Iterator[str]:
        """What is installed."""
        for name, content in self.files.items():
            yield f"# {self.folder / name}\n{content}"

    def hints(self, *, written: bool) -> Iterator[str]:
        """What else is to be done."""
        if not written:
            yield "Run this again with --write to put both files there, then:"
        yield f"systemctl --user daemon-reload && systemctl --user enable --now {self.timer}"
        yield "To have it run while you are logged out: loginctl enable-linger"

    def answer(self, *, written: bool) -> dict[str, Any]:
        """The same for programs."""
        return {"kind": "systemd", "written": written, "folder": str(self.folder), "files": self.files}

    def write(self) -> None:
        """Put both files where the user's systemd finds them."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                replace_file(self.folder / name, content.encode())
        except OSError as error:
            raise Unavailable(
                "read_only",
                f"{self.folder} cannot be written: {error.strerror}.",
                hint="Leave --write out and put the files there by hand.",
            ) from error


def cron_plan(schedule: CloseSchedule) -> CronPlan:
    """A line that closes up to yesterday; where cron's zone is not the company's, it looks every hour whether to."""
    hour, minute = divmod(schedule.at_minute, 60)
    when = f"{minute} {hour} * * *  "
    if schedule.company_zone != schedule.machine_zone:
        when = f"{_minutes(schedule)} * * * *  {_time_reached_test(schedule)} && "
    command = _cron_words([*program_of(schedule.home), *CLOSE_COMMAND])
    return CronPlan(
        comment=f"# {schedule.name}",
        line=f'{when}POPUG_TOKEN="$(cat {schedule.token_file})" {command}',
        call=f" {_cron_words([*_home_option(schedule.home), *CLOSE_COMMAND])}",
        token_command=_token_command(schedule),
    )


def _minutes(schedule: CloseSchedule) -> str:
    """At which minutes of the machine's hours the company's clocks show the asked one, in winter and in summer."""
    year = datetime.now(UTC).year
    seasons = [datetime(year, month, 1, tzinfo=UTC) for month in (1, 7)]
    company, machine = (Calendar(name) for name in (schedule.company_zone, schedule.machine_zone))
    ahead = [_offset_minutes(company, season) - _offset_minutes(machine, season) for season in seasons]
    return ",".join(str(minute) for minute in sorted({(schedule.at_minute - offset) % 60 for offset in ahead}))


def _offset_minutes(calendar: Calendar, instant: datetime) -> int:
    offset = calendar.local(instant).utcoffset() or timedelta(0)
    return offset // timedelta(minutes=1)


def _time_reached_test(schedule: CloseSchedule) -> str:
    hour, minute = divmod(schedule.at_minute, 60)
    return f'[ "$(TZ={schedule.company_zone} date +\\%H\\%M)" -ge {hour:02}{minute:02} ]'


def _cron_words(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words).replace("%", "\\%")


def _token_command(schedule: CloseSchedule) -> str:
    is_plain = schedule.home == default_home() == find_home(None)
    popug = "popug" if is_plain else f"popug --home {shlex.quote(str(schedule.home.root))}"
    return f"{popug} token issue NAME --ttl 365d --scope close-day | head -1 > {schedule.token_file}"


def systemd_plan(schedule: CloseSchedule) -> SystemdPlan:
    """A service that does what is due, and a timer that makes up for a machine that was off.

    It looks again some hours later, for in a night in which the clocks are put forward its hour may not exist.
    """
    from platformdirs import user_config_path

    times = [_clock_text(schedule.at_minute + 60 * hours) for hours in (0, SECOND_RUN_AFTER_HOURS)]
    words = [*program_of(schedule.home), "scheduler", "--once", "--at", times[0]]
    command = " ".join(unit_word(word) for word in words)
    service = (
        "[Unit]\nDescription=Close the days of popug up to yesterday and send its mail\n\n"
        f"[Service]\nType=oneshot\nExecStart={command}\nUMask=0077\n"
    )
    elapses = "".join(f"OnCalendar=*-*-* {time}:00 {schedule.company_zone}\n" for time in times)
    timer = (
        "[Unit]\nDescription=Close the days of popug every night\n\n"
        f"[Timer]\n{elapses}Persistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    files = {f"{schedule.name}.service": service, f"{schedule.name}.timer": timer}
    return SystemdPlan(user_config_path() / "systemd" / "user", files, f"{schedule.name}.timer")


def _clock_text(minute: int) -> str:
    return "{:02}:{:02}".format(*divmod(minute % 1440, 60))


def program_of(home: Home) -> list[str]:
    """How this very program is called for this home, from anywhere."""
    words = [*_program_words(), *_home_option(home)]
    if any(not character.isprintable() for word in words for character in word):
        raise InvalidInput("usage", f"{home.root!s} cannot be written into such a file.", hint="Move it elsewhere.")
    return words


def _home_option(home: Home) -> list[str]:
    return ["--home", str(home.root)]


def program_next_to_python() -> Path | None:
    """The program as it was installed beside this Python, if it was."""
    program = Path(sys.executable).with_name("popug")
    return program if program.is_file() else None


def _program_words() -> list[str]:
    program = program_next_to_python()
    return [str(program)] if program else [sys.executable, "-m", "popug_cli"]


def unit_word(word: str) -> str:
    """A word of a command line in a unit file, where ``%`` and ``$`` mean something."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if plain != word or any(c in word for c in " '\t;") else word


def _split_lines(table: bytes) -> list[bytes]:
    """The lines of a crontab, which a line feed ends and nothing else does."""
    return table.removesuffix(b"\n").split(b"\n") if table else []


def _crontab(argument: str, *, content: bytes = b"", missing_is_empty: bool = False) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own crontab
            ["crontab", argument],  # noqa: S607 - wherever it is installed
            input=content,
            capture_output=True,
            timeout=CRONTAB_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_crontab(str(error)) from error
    if done.returncode and not (missing_is_empty and b"no crontab" in done.stderr):
        raise _no_crontab(done.stderr.decode(errors="replace").strip())
    return done.stdout if not done.returncode else b""


def _no_crontab(reason: str) -> Unavailable:
    return Unavailable(
        "no_crontab", f"The crontab cannot be used: {reason}.", hint="Leave --write out and add the line by hand."
    )
