"""The zone of a new company is the one that the C library uses, or `popug init` asks for it; none is guessed."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.machine_zone import machine_zone_name
from tests.support.namespace import PYTHON, run_in_namespace

ZONES = "/usr/share/zoneinfo"
BERLIN_RULE = "CET-1CEST,M3.5.0,M10.5.0/3"
PRINT_ZONE = """
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.machine_zone import machine_zone_name
try:
    name = machine_zone_name()
except InvalidInput as error:
    print(error.code, error.message, error.hint)
else:
    now = datetime.now(UTC)
    assert now.astimezone(ZoneInfo(name)).utcoffset() == timedelta(seconds=time.localtime().tm_gmtoff)
    print(name)
"""
# A directory for /etc without a zone; the script links and writes files there before it is mounted.
PREPARE_ETC = "mount -t tmpfs none /mnt; cp /etc/passwd /etc/ld.so.cache /mnt/; cd /mnt; "
MOUNT_ETC = '; cd /; mount --bind /mnt /etc; "$PYTHON" -c "$PRINT_ZONE"'


@pytest.fixture(autouse=True)
def _reads_tz_again() -> Iterator[None]:
    """Let the C library read the outer TZ again after each test."""
    yield
    time.tzset()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        (f"{ZONES}/Europe/Berlin", "Europe/Berlin"),
        (f":{ZONES}/Europe/Berlin", "Europe/Berlin"),
        ("posix/Asia/Kathmandu", "Asia/Kathmandu"),
        (f"{ZONES}/posix/Asia/Kathmandu", "Asia/Kathmandu"),
        ("../zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("US/Eastern", "US/Eastern"),
        ("UTC-3", "Etc/GMT-3"),
        ("EST5", "Etc/GMT+5"),
        ("<-03>3", "Etc/GMT+3"),
        ("UTC0", "UTC"),
        ("", "UTC"),
        (":", "UTC"),
    ],
)
def test_zone_of_tz_is_named(monkeypatch: pytest.MonkeyPatch, value: str, name: str) -> None:
    monkeypatch.setenv("TZ", value)
    assert machine_zone_name() == name


@pytest.mark.parametrize(
    "value",
    [
        *("CET-1CEST", BERLIN_RULE, "<+0530>-5:30", "XXX24", "Nowhere/Land", "no zone", "europe/berlin"),
        *("Europe/Berlin/", "/etc", "/etc/passwd", "/no/file", "a" * 5000, "\udcff", f"right/../{BERLIN_RULE}"),
    ],
)  # fmt: skip
def test_tz_without_a_name_is_asked_for(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TZ", value)
    with pytest.raises(InvalidInput) as refused:
        machine_zone_name()
    assert refused.value.code == "needs_time_zone"
    assert "--time-zone" in refused.value.hint


def test_tz_differing_from_the_c_library_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setenv("TZDIR", str(tmp_path))  # the C library finds no file and shows UTC
    with pytest.raises(InvalidInput, match="shows another time") as refused:
        machine_zone_name()
    assert "--time-zone Europe/Berlin" in refused.value.hint


def test_copied_zone_file_is_recognized_by_its_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("America/New_York", "Asia/Kathmandu", "UTC"):
        copy = tmp_path / name.replace("/", "-")  # the C library keeps what it has read of a file
        copy.write_bytes((Path(ZONES) / name).read_bytes())
        monkeypatch.setenv("TZ", str(copy))
        assert machine_zone_name() == name


@pytest.mark.parametrize(
    ("etc", "name"),
    [
        (f"ln -s {ZONES}/America/New_York localtime", "America/New_York"),
        (f"ln -s ..{ZONES}/America/New_York localtime; echo America/New_York > timezone", "America/New_York"),
        (f"ln -s {ZONES}/America/New_York localtime; echo US/Eastern > timezone", "America/New_York"),
        (f"ln -s {ZONES}/America/New_York localtime; printf '\\377\\376' > timezone", "America/New_York"),
        (f"ln -s {ZONES}/Europe/Berlin zone; ln -s zone localtime", "Europe/Berlin"),
        (f"cp {ZONES}/Europe/Berlin localtime; echo '# Debian\nEurope/Berlin' > timezone", "Europe/Berlin"),
        (f"cp {ZONES}/America/New_York localtime", "America/New_York"),
        (f"ln -s {ZONES}/Etc/UTC localtime; echo UTC > timezone", "Etc/UTC"),
        ("true", "UTC"),
        ("echo Etc/UTC > timezone", "UTC"),
        ("ln -s /missing/zoneinfo/Etc/UTC localtime", "Etc/UTC"),
    ],
)
def test_zone_of_localtime_is_named(etc: str, name: str) -> None:
    result = run_in_namespace(PREPARE_ETC + etc + MOUNT_ETC, {"PRINT_ZONE": PRINT_ZONE})
    assert result.stdout.strip() == name, result


@pytest.mark.parametrize(
    "etc",
    [
        f"ln -s {ZONES}/America/New_York localtime; echo Etc/UTC > timezone",
        f"ln -s {ZONES}/Europe/Berlin localtime; echo Europe/Oslo > timezone",
        f"cp {ZONES}/Europe/Berlin localtime; echo Europe/London > timezone",
        "echo Europe/Berlin > timezone",
        "echo 'no zone file' > localtime",
        "mkdir localtime",
        "ln -s /missing/zoneinfo/Europe/Berlin localtime",
        "ln -s /missing/zoneinfo/Europe/Berlin localtime; echo Europe/Berlin > timezone",
        f"ln -s {ZONES}/Europe/Nowhere localtime",
        "ln -s localtime localtime",
        "ln -s localtime localtime; echo Europe/Berlin > timezone",
    ],
)
def test_contradicting_files_are_asked_for(etc: str) -> None:
    result = run_in_namespace(PREPARE_ETC + etc + MOUNT_ETC, {"PRINT_ZONE": PRINT_ZONE})
    assert result.stdout.startswith("needs_time_zone "), result
    assert "--time-zone" in result.stdout


def test_init_refused_until_the_zone_is_named(tmp_path: Path) -> None:
    command = [PYTHON, "-m", "popug_cli", "init", "--admin", "ada", "--email", "ada@example.com", "--password-stdin"]
    environment = {
        "POPUG_HOME": str(tmp_path / "home"), "POPUG_SESSION": str(tmp_path / "session"), "TZ": BERLIN_RULE,
    }  # fmt: skip

    def init(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, "--json", *options], env=environment, input="seven-cages-under-9-moons\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    refused = init()
    assert refused.returncode == 2, refused
    assert json.loads(refused.stderr)["error"]["code"] == "needs_time_zone"
    assert BERLIN_RULE in json.loads(refused.stderr)["error"]["message"]
    assert not (tmp_path / "home").exists()
    founded = init("--time-zone", "Europe/Berlin")
    assert json.loads(founded.stdout)["time_zone"] == "Europe/Berlin", founded
