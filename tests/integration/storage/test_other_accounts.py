"""Only the owner of a home opens it; files of other accounts are refused and named, never taken over."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import OTHER, OWNER, ROOT, only_root, own_folder, owners, run_as, shared_folder

pytestmark = only_root
FIRST_ADMIN = ("--admin", "ada", "--email", "ada@example.com", "--time-zone", "Europe/Berlin", "--password-stdin")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Yield a folder with the company of an account without a name, a backup of it, and a machine token."""
    with shared_folder() as folder:
        ada = own_folder(folder / "ada", OWNER)
        for command in (["init", *FIRST_ADMIN], ["backup", str(ada / "good.zip")]):
            done = run_as(OWNER, *command, home=ada / "home", folder=ada)
            assert done.returncode == 0, done.stderr
        yield folder


COMMANDS = [
    "config set mail.from x@example.com", "config show", "token rotate", "restore GOOD --yes", "close-day",
    "mail send", "backup", "backup OUT", "doctor", "ledger verify", "scheduler --once", "hooks list", "serve",
    "recover ada --password-stdin", "login ada --password-stdin", "login ada --password-stdin --print-token",
    "tasks list", "task add Feed", "today", "tasks export --out OUT", "init --password-stdin --admin b --email b@b.de",
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "account", "has_own_home"),
    [
        *((command, ROOT, True) for command in COMMANDS),
        *((command, ROOT, False) for command in COMMANDS[::4]),
        *((command, OTHER, True) for command in COMMANDS[1::4]),
    ],
)
def test_foreign_home_is_refused(place: Path, command: str, account: int, has_own_home: bool) -> None:
    """`sudo` keeps HOME on some systems, and sets root's on others."""
    ada, out = place / "ada", place / "ada" / "out"
    words = [{"GOOD": str(ada / "good.zip"), "OUT": str(out)}.get(word, word) for word in command.split()]
    folder = place / f"own-{account}" if has_own_home else ada
    if has_own_home and not folder.exists():
        own_folder(folder, account)
    done = run_as(account, *words, home=ada / "home", folder=folder)
    assert done.returncode in {4, 8}, done
    assert f"uid {OWNER}" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert owners(ada) == {OWNER}
    assert not out.exists()


def test_owner_works_after_attempts_of_others(place: Path) -> None:
    ada = place / "ada"
    for account in (ROOT, OTHER):
        run_as(account, "config", "set", "mail.from", "x@example.com", home=ada / "home", folder=ada)
    for command in (["whoami"], ["config", "set", "mail.from", "y@example.com"], ["token", "rotate"], ["doctor"]):
        done = run_as(OWNER, *command, home=ada / "home", folder=ada)
        assert done.returncode == 0, done.stderr
    assert owners(ada) == {OWNER}


def test_refusal_names_both_accounts_and_a_command(place: Path) -> None:
    ada = place / "ada"
    done = run_as(ROOT, "config", "show", "--json", home=ada / "home", folder=place)
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "foreign_owner"
    assert error["details"] == {"path": str(ada / "home"), "owner": OWNER}
    assert f"the account with uid {OWNER}, and this command runs as the account root (uid 0)" in error["message"]
    command = error["hint"].partition("for example `")[2].partition("`")[0]
    assert command.startswith((f"setpriv --reuid {OWNER} ", f"sudo -u '#{OWNER}' "))
    assert command.endswith(f" doctor --home {ada / 'home'}")


@pytest.mark.parametrize(("mode", "owner"), [(0o777, OWNER), (0o1777, OWNER), (0o755, ROOT), (0o700, OTHER)])
@pytest.mark.parametrize("is_empty", [True, False])
def test_init_refuses_open_or_foreign_directory(place: Path, mode: int, owner: int, is_empty: bool) -> None:
    home = own_folder(place / f"home-{mode}-{owner}-{is_empty}", owner)
    if not is_empty:
        (home / "notes").write_text("mine")
    home.chmod(mode)
    before = sorted(home.iterdir())
    done = run_as(OWNER, "init", *FIRST_ADMIN, home=home, folder=place / "ada")
    assert done.returncode in {2, 8}, done.stderr
    assert str(home) in done.stderr
    if owner != OWNER:
        assert f"uid {owner}" in done.stderr
    assert sorted(home.iterdir()) == before
    assert home.stat().st_mode & 0o7777 == mode


def test_init_as_root_in_the_directory_of_another_account(place: Path) -> None:
    ada = place / "ada"
    for command in (["init", *FIRST_ADMIN], ["restore", str(ada / "good.zip"), "--yes"], ["demo", "--home", "new"]):
        words = [str(ada / "new") if word == "new" else word for word in command]
        done = run_as(ROOT, *words, home=ada / "new", folder=place)
        assert done.returncode == 8, done
        assert f"uid {OWNER}" in done.stderr
    assert not (ada / "new").exists()


def test_directory_open_to_its_group_is_restricted(place: Path) -> None:
    home = own_folder(place / "group", OWNER)
    home.chmod(0o775)  # mkdir with the umask 002 of many systems
    assert run_as(OWNER, "init", *FIRST_ADMIN, home=home, folder=own_folder(place / "g", OWNER)).returncode == 0
    assert home.stat().st_mode & 0o777 == 0o700


def test_export_keeps_the_file_of_another_account(place: Path) -> None:
    home, root = place / "roots", own_folder(place / "r", ROOT)
    assert run_as(ROOT, "init", *FIRST_ADMIN, home=home, folder=root).returncode == 0
    theirs = place / "ada" / "tasks.jsonl"
    theirs.write_text("theirs")
    os.chown(theirs, OWNER, OWNER)
    link = place / "ada" / "link"
    link.symlink_to(root / "precious")
    os.chown(link, OWNER, OWNER, follow_symlinks=False)
    (root / "precious").write_text("precious")
    for out in (theirs, link):
        done = run_as(ROOT, "tasks", "export", "--force", "--out", str(out), home=home, folder=root)
        assert done.returncode == 8, done
        assert f"uid {OWNER}" in done.stderr
    assert (theirs.read_text(), (root / "precious").read_text()) == ("theirs", "precious")
    assert theirs.stat().st_uid == OWNER


def test_session_in_a_shared_directory_is_not_taken_over(place: Path) -> None:
    """Another account plants the session file, a link, or the old predictable temporary names."""
    shared = own_folder(place / "shared", ROOT)
    shared.chmod(0o777)
    victim = own_folder(place / "victim", OWNER)
    (victim / "profile").write_text("profile")
    os.chown(victim / "profile", OWNER, OWNER)
    home = place / "victims"
    company = own_folder(home, OWNER)
    assert run_as(OWNER, "init", *FIRST_ADMIN, home=company, folder=victim).returncode == 0
    session = shared / "session.json"
    login = ("login", "ada", "--password-stdin")
    for plant in ("file", "link"):
        if plant == "file":
            session.write_text("{}")
            session.chmod(0o600)
        else:
            session.symlink_to(victim / "profile")
        os.chown(session, OTHER, OTHER, follow_symlinks=False)
        for account in (OWNER, ROOT):
            code = f"import os, sys; os.environ['POPUG_SESSION'] = {str(session)!r}; sys.argv[0] = 'popug'"
            program = ("-c", f"{code}; from popug_cli.__main__ import main; main()")
            done = run_as(account, *login, home=company, folder=victim, program=program)
            assert done.returncode == 4, (plant, account, done)
            assert f"uid {OTHER}" in done.stderr
        session.unlink()
    assert (victim / "profile").read_text() == "profile"


@pytest.mark.parametrize("name", ["config.toml", "popug.db", "popug.db-wal", "keys/signing", "keys/*.pem", "backups"])
def test_file_that_an_earlier_sudo_left_is_named_with_its_owner(place: Path, name: str) -> None:
    ada = place / "ada"
    file = next(ada.joinpath("home").glob(name), ada / "home" / name)
    file.touch(mode=0o600)
    os.chown(file, ROOT, ROOT)
    try:
        results = [
            run_as(OWNER, *command, home=ada / "home", folder=ada)
            for command in (["config", "show"], ["token", "issue", "ada", "--ttl", "1h"], ["backup"])
        ]
    finally:
        os.chown(file, OWNER, OWNER)
    refusals = [done.stderr for done in results if done.returncode]
    assert refusals
    for refusal in refusals:
        assert f"{file}" in refusal
        assert "it belongs to the account root (uid 0)" in refusal
        assert f"sudo chown {OWNER} {file}" in refusal
