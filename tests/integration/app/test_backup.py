"""A backup is one consistent instant while others write; a restore replaces the home completely or not at all."""

import re
import shutil
import sqlite3
import threading
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import Conflict, IntegrityViolation, InvalidInput, NotAuthenticated, PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.company import BackUp, CheckHealth, Restore, VerifyLedger
from popug_cli.messages.identity import LogIn, WhoAmI
from popug_cli.messages.mail import SendMail
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.platform import swap_dirs
from popug_cli.storage import backup_file
from popug_cli.storage.backup_reader import MAX_SETTINGS_BYTES
from popug_cli.storage.mounts import TEMP_HOME_MARKER
from tests.support.company import PASSWORD, InProcess
from tests.support.ledger_company import company_with_a_past, copy_of, tamper


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    company = company_with_a_past(tmp_path_factory.mktemp("original"))
    company.backend.home.config.write_text('[mail]\nfrom = "popug@example.com"\n')
    return company


@pytest.fixture
def company(original: InProcess, tmp_path: Path) -> InProcess:
    company = copy_of(original, tmp_path / "home")
    company.backend.home.make()
    for part in ("keys", "config.toml"):
        source = original.root / part
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        if source.is_dir():
            (company.root / part).rmdir()
        copy(source, company.root / part)
    return company


def back_up(company: InProcess, path: Path | None = None) -> Path:
    answer = company.backend.perform(BackUp(path=str(path) if path else None))
    assert answer.bytes == Path(answer.path).stat().st_size
    return Path(answer.path)


def titles(company: InProcess) -> list[str]:
    return [task.title for task in company.act("boss", ListTasks(status=StatusFilter.ALL)).tasks]


def neighbours(company: InProcess) -> set[str]:
    return {path.name for path in company.root.parent.iterdir()}


def test_backup_holds_database_and_settings_and_no_keys(company: InProcess) -> None:
    file = back_up(company)
    assert file.parent == company.backend.home.backups
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(zipfile.ZipFile(file).namelist()) == {"popug.db", "config.toml"}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_backup_refused_for_existing_or_unwritable_file(company: InProcess, tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("precious")
    with pytest.raises(Conflict) as refusal:
        back_up(company, file)
    assert refusal.value.code == "file_exists"
    assert file.read_text() == "precious"
    with pytest.raises(InvalidInput) as invalid:
        back_up(company, tmp_path / "no" / "such" / "folder")
    assert invalid.value.code == "unwritable_file"


def test_backup_refused_for_a_damaged_company(company: InProcess, tmp_path: Path) -> None:
    tamper(company, "UPDATE billing_entries SET amount_cents = amount_cents + 1 WHERE position = 2")
    with pytest.raises(IntegrityViolation) as fault:
        back_up(company, tmp_path / "sick")
    assert fault.value.code == "integrity"
    assert neighbours(company) == {"home"}


def test_backup_is_one_instant_while_others_write(company: InProcess, tmp_path: Path) -> None:
    stop, other = threading.Event(), company.backend.for_home(company.backend.home)

    def work() -> None:
        while not stop.is_set():
            other.perform_as(company.people["boss"], AddTask(title="Meanwhile"))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        files = [back_up(company, tmp_path / f"backup-{number}") for number in range(3)]
    finally:
        stop.set()
        worker.join()
    other.close()
    counts = []
    for number, file in enumerate(files):
        backend = LocalBackend(Home(tmp_path / f"restored-{number}"), clock=company.clock, randomness=company.chance)
        backend.perform(Restore(path=str(file)))
        assert backend.perform(CheckHealth()).ok
        counts.append(backend.perform_as(company.people["boss"], ListTasks(status=StatusFilter.ALL)).total)
        backend.close()
    assert counts == sorted(counts)


def test_restore_brings_data_back_and_keeps_the_replaced_home(company: InProcess) -> None:
    file = back_up(company)
    before, head = titles(company), company.backend.perform(VerifyLedger()).head
    company.act("boss", AddTask(title="Lost and kept"))
    answer = company.backend.perform(Restore(path=str(file)))
    assert answer.path == str(company.root)
    assert titles(company) == before
    assert company.backend.perform(VerifyLedger(head=head)).ok
    assert company.backend.perform(CheckHealth()).ok
    assert answer.replaced
    assert neighbours(company) == {"home", Path(answer.replaced).name}
    kept = LocalBackend(Home(Path(answer.replaced)), clock=company.clock)
    assert kept.perform_as(company.people["boss"], ListTasks(status=StatusFilter.ALL)).total == len(before) + 1
    kept.close()
    assert "popug@example.com" in company.backend.home.config.read_text()
    assert not (company.root / TEMP_HOME_MARKER).exists()
    assert company.root.stat().st_mode & 0o777 == 0o700


def test_restore_ends_every_login_and_holds_queued_mail(company: InProcess) -> None:
    token = company.backend.perform(LogIn(username="boss", password=PASSWORD)).token
    company.act("boss", CloseDay(send_mail=False))
    (queued,) = company.rows("SELECT count(*) AS n FROM mail_outbox WHERE status = 'queued'")
    assert queued["n"]
    assert company.backend.perform(WhoAmI(), token).username == "boss"
    company.backend.perform(Restore(path=str(back_up(company))))
    with pytest.raises(NotAuthenticated):
        company.backend.perform(WhoAmI(), token)
    assert company.rows("SELECT count(*) AS n FROM identity_tokens WHERE revoked_at IS NULL") == [{"n": 0}]
    again = company.backend.perform(LogIn(username="boss", password=PASSWORD)).token
    assert company.backend.perform(WhoAmI(), again).username == "boss"
    assert company.act("boss", SendMail()).sent == 0
    assert company.act("boss", SendMail(release=True)).sent == queued["n"]


@pytest.mark.parametrize("is_there", [True, False])
def test_restore_works_on_an_empty_home(company: InProcess, tmp_path: Path, is_there: bool) -> None:
    home = Home(tmp_path / "new" / "home")
    if is_there:
        home.make()
        for part in home.root.iterdir():
            part.rmdir()
    backend = LocalBackend(home, clock=company.clock, randomness=company.chance)
    assert backend.perform(Restore(path=str(back_up(company)))).replaced is None
    assert backend.perform(CheckHealth()).ok
    balance = GetBalance(username="kesha")
    assert backend.perform_as(company.people["boss"], balance) == company.act("boss", balance)
    backend.close()


def test_bare_copy_of_a_database_can_be_restored(company: InProcess, tmp_path: Path) -> None:
    before = titles(company)
    backup_file.copy_database(company.backend.home.database, tmp_path / "bare.db")
    company.act("boss", AddTask(title="Later"))
    company.backend.perform(Restore(path=str(tmp_path / "bare.db")))
    assert titles(company) == before


def test_restore_of_invalid_backup_changes_nothing(company: InProcess, tmp_path: Path) -> None:
    good = back_up(company, tmp_path / "good")
    content = good.read_bytes()
    wrong = {"empty": b"", "text": b"no backup", "cut": content[: len(content) // 2]}
    wrong["flipped"] = content[:5000] + bytes(each ^ 255 for each in content[5000:5010]) + content[5010:]
    for name, damaged in wrong.items():
        (tmp_path / name).write_bytes(damaged)
    with zipfile.ZipFile(tmp_path / "other", "w") as other:
        other.writestr("../evil", "x")
    with closing(sqlite3.connect(tmp_path / "sqlite")) as database:
        database.execute("CREATE TABLE x (y)")
    before, names = titles(company), neighbours(company) - {"good"}
    for name in (*wrong, "other", "sqlite", "missing", "."):
        with pytest.raises(PopugError) as error:
            company.backend.perform(Restore(path=str(tmp_path / name)))
        assert error.value.exit_status in {2, 7}, name
    assert neighbours(company) - {"good"} == names
    assert titles(company) == before


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DROP TABLE x", "corrupt_database"),
        ("SELECT 1", "corrupt_database"),
        ("CREATE TABLE alembic_version AS SELECT '9999' AS version_num", "newer_database"),
        ("CREATE TABLE alembic_version AS SELECT 'x' AS version_num", "corrupt_database"),
    ],
)
def test_restore_error_names_the_backup_file(company: InProcess, tmp_path: Path, statement: str, code: str) -> None:
    with closing(sqlite3.connect(tmp_path / "given")) as database, database:
        database.execute("CREATE TABLE x (y)")
        database.execute(statement)
    with pytest.raises(IntegrityViolation, match=re.escape(str(tmp_path / "given"))) as refused:
        company.backend.perform(Restore(path=str(tmp_path / "given")))
    assert refused.value.code == code


def test_restore_refused_with_invalid_settings_in_backup(company: InProcess, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given", "w") as given:
        given.write(company.root / "popug.db", "popug.db")
        given.writestr("config.toml", "[[[")
    with pytest.raises(PopugError, match=r"config\.toml in .*given is not valid TOML") as refused:
        company.backend.perform(Restore(path=str(tmp_path / "given")))
    assert f"unzip {tmp_path / 'given'} popug.db -d rescued" in str(refused.value.hint)
    with zipfile.ZipFile(tmp_path / "given") as given:  # as that command does
        given.extract("popug.db", tmp_path / "rescued")
    company.backend.perform(Restore(path=str(tmp_path / "rescued" / "popug.db")))


@pytest.mark.parametrize("is_relative", [True, False])
def test_restore_keeps_the_link_to_the_settings(company: InProcess, tmp_path: Path, is_relative: bool) -> None:
    target = tmp_path / "popug.toml"
    (company.root / "config.toml").rename(target)
    link = Path("../popug.toml") if is_relative else target
    (company.root / "config.toml").symlink_to(link)
    file = back_up(company, tmp_path / "good")
    before = target.read_text()
    company.backend.perform(Restore(path=str(file)))
    assert (company.root / "config.toml").readlink() == link
    assert target.read_text() == before


def test_restore_names_the_link_that_it_replaces(company: InProcess, tmp_path: Path) -> None:
    file = back_up(company, tmp_path / "good")
    target = tmp_path / "popug.toml"
    said: list[str] = []
    target.write_text("[log]\naccess = true\n")
    (company.root / "config.toml").unlink()
    (company.root / "config.toml").symlink_to(target)
    backend = LocalBackend(company.backend.home, warn=said.append)
    backend.perform(Restore(path=str(file), take_mail_settings=True))
    assert "popug@example.com" in (company.root / "config.toml").read_text()
    assert target.read_text() == "[log]\naccess = true\n"
    assert str(target) in said[-1]


def test_backup_without_settings_that_no_restore_accepts(company: InProcess, tmp_path: Path) -> None:
    (company.root / "config.toml").write_text("#" * (MAX_SETTINGS_BYTES + 1))
    file = back_up(company, tmp_path / "good")
    company.backend.perform(Restore(path=str(file)))
    assert not (company.root / "config.toml").exists()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_failed_swap_leaves_the_old_home(
    company: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    file, before = back_up(company, tmp_path / "good"), titles(company)
    if not can_exchange:
        monkeypatch.setattr(swap_dirs, "exchange", lambda one, other: False)
    real = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if "before-restore" in str(target):
            raise OSError(16, "Device or resource busy")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PopugError) as error:
        company.backend.perform(Restore(path=str(file)))
    assert error.value.exit_status == 8
    assert titles(company) == before
    assert neighbours(company) == {"home", "good"}
    monkeypatch.undo()
    company.backend.perform(Restore(path=str(file)))
    assert titles(company) == before


def test_restore_renames_twice_without_exchange(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_dirs, "exchange", lambda one, other: False)
    answer = company.backend.perform(Restore(path=str(back_up(company))))
    assert answer.replaced
    assert neighbours(company) == {"home", Path(answer.replaced).name}
    assert company.backend.perform(CheckHealth()).ok


def test_backup_refused_if_its_folder_cannot_be_created(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PopugError) as refusal:
        company.backend.perform(BackUp())
    assert (refusal.value.code, refusal.value.exit_status) == ("read_only", 8)
