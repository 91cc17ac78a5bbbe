"""The program with five payouts queued, whose mail goes to a small SMTP server."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from tests.support.company import PASSWORD
from tests.support.mail_company import MailCompany
from tests.support.smtp_server import Post, smtp_server

NAMES = ("kesha", "gosha", "vera", "jora", "tosha")
Popug = Callable[..., tuple[int, str, str]]


@pytest.fixture
def post() -> Iterator[Post]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def popug(tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Popug:
    """The program, run by the admin of a company whose mail goes to the server."""
    settings = {"MAIL_TRANSPORT": "smtp", "MAIL_SMTP_HOST": "127.0.0.1", "MAIL_SMTP_PORT": str(post.port)}
    return found_company(tmp_path, settings, 200, monkeypatch, capsys)


def found_company(
    folder: Path,
    settings: dict[str, str],
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Popug:
    """Create a company with the program, on a screen of so many columns; return a function that runs the program."""
    settings = settings | {"HOME": str(folder / "home"), "SESSION": str(folder / "session.json")}
    settings |= {"IDENTITY_ARGON2_MEMORY_KIB": "8192", "IDENTITY_ARGON2_TIME_COST": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"POPUG_{name}", value)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))

    def popug_(*arguments: str) -> tuple[int, str, str]:
        code = run([*arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PASSWORD.encode())))
    init = ("init", "--admin", "ada", "--email", "ada@example.com", "--time-zone", "Europe/Berlin", "--password-stdin")
    assert popug_(*init)[0] == 0
    return popug_


@pytest.fixture
def room(popug: Popug, tmp_path: Path) -> MailCompany:
    """Five payouts queued."""
    room = MailCompany(tmp_path / "home")
    room.hire(*NAMES)
    room.pay(*NAMES)
    return room
