"""The name of the machine's time zone, found as the C library finds the zone: by TZ, else by /etc/localtime.

See tzset(3). A company keeps its zone permanently, so popug asks for it if sources disagree or the zone has no name.
See ``decisions/0048-popug-takes-no-default-that-the-machine-contradicts.md``.
"""

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from popug_cli.kernel.calendar import load_zone
from popug_cli.kernel.errors import InvalidInput

LOCALTIME = Path("/etc/localtime")
TIMEZONE_FILE = Path("/etc/timezone")  # Debian writes the name there; the C library does not read it
DEFAULT_ZONE_DIRECTORY = "/usr/share/zoneinfo"
MAX_LINKS = 40
MAX_NAMED_ZONES = 5
WEEK = timedelta(days=7)
FIRST_COMPARED_INSTANT = datetime(1900, 1, 1, tzinfo=UTC)
_IN_ZONE_DIRECTORY = re.compile(r"/zoneinfo[^/]*/(?:posix/)?(?P<name>.+)")
_FIXED_OFFSET_RULE = re.compile(r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?[0-9]{1,3}(?::[0-9]{2}){0,2}")


def machine_zone_name() -> str:
    """Return the IANA name of the zone that the C library uses; raise ``needs_time_zone`` if no source is certain."""
    time.tzset()
    variable = os.environ.get("TZ")
    name = _name_by_files() if variable is None else _name_by_variable(variable)
    if not _agrees_with_clock(ZoneInfo(name)):
        source = LOCALTIME if variable is None else "TZ"
        raise _needs_time_zone(f"{source} names {name}, but this machine's clock shows another time.", name)
    return name


def _name_by_files() -> str:
    """Return the name of the zone in /etc/localtime, or UTC without that file; /etc/timezone must not contradict it.

    A dangling link names its zone as well. The C library then uses UTC, so the comparison with the clock fails, unless
    the zone is UTC.
    """
    recorded = _recorded_name()
    exists = os.path.lexists(LOCALTIME)
    name = _name_of_file(LOCALTIME, preferred=recorded) if exists else "UTC"
    if recorded and not _have_same_rules(ZoneInfo(recorded), ZoneInfo(name)):
        found = f"{LOCALTIME} is the zone {name}" if exists else f"{LOCALTIME} is missing, which means UTC"
        raise _needs_time_zone(f"{found}, but {TIMEZONE_FILE} says {recorded}.", name)
    return name


def _name_by_variable(value: str) -> str:
    """Return the name of the zone in TZ: a name, a path, or a rule with a fixed offset of whole hours."""
    rule = value.removeprefix(":")
    if not rule:
        return "UTC"
    name = rule.removeprefix("posix/")
    if _is_zone(name):
        return name
    file = Path(os.environ.get("TZDIR") or DEFAULT_ZONE_DIRECTORY) / rule
    if os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises OSError for a long name
        return _name_of_file(file)
    offset_seconds = time.localtime().tm_gmtoff
    if _FIXED_OFFSET_RULE.fullmatch(rule) and offset_seconds % 3600 == 0:
        name = f"Etc/GMT{-offset_seconds // 3600:+d}" if offset_seconds else "UTC"
        if _is_zone(name):
            return name
    raise _needs_time_zone(f"TZ is {value!r}, which is not the name of a time zone.")


def _name_of_file(file: Path, *, preferred: str = "") -> str:
    """Return the name of the zone in a file: by its path or one to which it links, else by its rules.

    If several zones have these rules, return `preferred` if it is one of them. Raise ``needs_time_zone``.
    """
    for path in _follow_links(file):
        match = _IN_ZONE_DIRECTORY.search(str(path))
        if match and _is_zone(match["name"]):
            return match["name"]
    try:
        with file.open("rb") as stream:
            names = _names_with_rules(ZoneInfo.from_file(stream))
    except (OSError, ValueError) as error:
        raise _needs_time_zone(f"{file} is not a time zone file.") from error
    if preferred in names:
        return preferred
    if len(names) != 1:
        found = ", ".join(names[:MAX_NAMED_ZONES]) or "no zone that popug knows"
        raise _needs_time_zone(f"{file} does not name a zone, and its rules fit {found}.", *names[:1])
    return names[0]


def _follow_links(file: Path) -> Iterator[Path]:
    """Yield the absolute path of a file, then that of each link that it leads to."""
    for _ in range(MAX_LINKS):
        file = Path(os.path.abspath(file))
        yield file
        if not file.is_symlink():
            return
        file = file.parent / file.readlink()


def _names_with_rules(zone: ZoneInfo) -> list[str]:
    """Return the names of the zones with these rules: those in zone.tab if several fit, else only UTC if it fits."""
    now = datetime.now(UTC)
    display_now = _offset_and_abbreviation(zone, now)
    names = sorted(
        name
        for name in available_timezones()
        if _is_zone(name)
        and _offset_and_abbreviation(ZoneInfo(name), now) == display_now
        and _have_same_rules(ZoneInfo(name), zone)
    )
    if len(names) > 1 and (of_countries := [name for name in names if name in _zones_of_countries()]):
        return of_countries
    return ["UTC"] if "UTC" in names else names


def _have_same_rules(first: ZoneInfo, second: ZoneInfo) -> bool:
    """Return whether two zones have shown the same time since 1900, and will for the next ten years."""
    if first.key is not None and first.key == second.key:
        return True
    weeks = (datetime.now(UTC) - FIRST_COMPARED_INSTANT) // WEEK + 52 * 10
    instants = (FIRST_COMPARED_INSTANT + week * WEEK for week in range(weeks, 0, -1))
    return all(
        _offset_and_abbreviation(first, instant) == _offset_and_abbreviation(second, instant) for instant in instants
    )


def _offset_and_abbreviation(zone: ZoneInfo, instant: datetime) -> tuple[timedelta | None, str | None]:
    local = instant.astimezone(zone)
    return local.utcoffset(), local.tzname()


def _agrees_with_clock(zone: ZoneInfo) -> bool:
    """Return whether the C library's local time is that of a zone, in each week from a year ago to two years ahead."""
    now = datetime.now(UTC)
    for week in range(-52, 104):
        instant = now + week * WEEK
        offset = timedelta(seconds=time.localtime(instant.timestamp()).tm_gmtoff)
        if instant.astimezone(zone).utcoffset() != offset:
            return False
    return True


def _zones_of_countries() -> frozenset[str]:
    """Return the names in zone.tab, which has at least one for each country, and no old names."""
    for folder in (*map(Path, TZPATH), resources.files("tzdata.zoneinfo")):
        try:
            text = (folder / "zone.tab").read_text(encoding="utf-8")
        except OSError:
            continue
        return frozenset(line.split("\t")[2].strip() for line in text.splitlines() if line.count("\t") > 1)
    return frozenset()


def _recorded_name() -> str:
    """Return the zone that /etc/timezone names, or an empty text if it names no known zone."""
    try:
        lines = TIMEZONE_FILE.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    words = [words[0] for line in lines if (words := line.partition("#")[0].split())]
    return words[0] if words and _is_zone(words[0]) else ""


def _is_zone(name: str) -> bool:
    try:
        load_zone(name)
    except InvalidInput:
        return False
    return True


def _needs_time_zone(reason: str, example: str = "Europe/Berlin") -> InvalidInput:
    return InvalidInput(
        "needs_time_zone",
        f"The company's time zone is not clear, and it cannot be changed later. {reason}",
        hint=f"Name it, for example `--time-zone {example}`.",
    )
