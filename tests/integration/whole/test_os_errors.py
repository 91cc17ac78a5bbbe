"""A refusal of the system is reported as an environment error, never as an internal one."""

import errno
import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from unittest.mock import Mock

import pytest

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.audit import rebuild
from popug_cli.cli import main
from popug_cli.cli.commands.start import demo
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.state import session_file
from popug_cli.identity import keys, passwords
from popug_cli.kernel.disk_errors import disk_full, unwritable
from popug_cli.kernel.errors import InvalidInput, PopugError, Unavailable
from popug_cli.kernel.home import Home, replace_restoring_on_error
from popug_cli.kernel.settings import load_settings
from popug_cli.messages.company import BackUp, CheckHealth, Restore
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask
from popug_cli.storage import backup_file, backup_reader
from popug_cli.storage.heartbeat import record
from popug_cli.storage.mounts import kind_without_locks, parse_mounts
from tests.support.company import InProcess
from tests.support.error_checks import refused


@contextmanager
def without_waiting() -> Iterator[None]:
    """Fail if a call blocks, as opening a pipe without a writer does."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")  # the program could handle an OSError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "read_only"),
        (errno.EISDIR, "read_only"),
        (errno.ELOOP, "read_only"),
        (errno.ENAMETOOLONG, "read_only"),
        (errno.EMFILE, "io_error"),
        (errno.ENOMEM, "io_error"),
        (errno.ENOSPC, "disk_full"),
        (errno.ENOENT, "read_only"),
    ],
)
def test_unforeseen_os_refusal_is_an_environment_error(
    number: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number), "/somewhere/popug.db")

    monkeypatch.setattr(main, "_run_program", refused)
    assert main.run(["whoami", "--json"]) == 8
    assert f'"{code}"' in capsys.readouterr().err


def test_other_os_error_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.ECHILD, os.strerror(errno.ECHILD), "/somewhere")

    monkeypatch.setattr(main, "_run_program", broken)
    assert main.run(["whoami"]) == 1


def test_closed_stdin_reads_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main.run(["man"]) == 0


def test_verification_without_memory_is_not_a_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2.exceptions import VerificationError

    class Starved:
        def verify(self, *_: object) -> bool:
            raise VerificationError("Memory allocation error")

    company = InProcess(tmp_path / "home")
    monkeypatch.setattr(passwords, "_hasher", lambda context: Starved())
    with company.backend.runtime.reading(OPERATOR) as context, refused("io_error", 8) as error:
        passwords.is_password("a password of some length", "a hash", context)
    assert "(Memory allocation error)" in error.value.message
    assert error.value.hint.startswith("Free some and try again, or lower identity.argon2_memory_kib or ")


def test_hashing_failure_is_io_error_only_for_known_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2.exceptions import HashingError

    company, hasher = InProcess(tmp_path / "home"), Mock()
    monkeypatch.setattr(passwords, "_hasher", lambda context: hasher)
    with company.backend.runtime.reading(OPERATOR) as context:
        for words in passwords.RESOURCE_ERROR_TEXTS:
            hasher.hash.side_effect = HashingError(words)
            with refused("io_error", 8) as refusal:
                passwords.hash_password("a password of some length", context)
            assert f"({words})" in refusal.value.message
        hasher.hash.side_effect = HashingError("Encoding failed")
        with pytest.raises(HashingError):
            passwords.hash_password("a password of some length", context)


def test_invalid_hash_matches_no_password(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    with company.backend.runtime.reading(OPERATOR) as context:
        assert not passwords.is_password("a password of some length", "no hash", context)


def test_key_that_cannot_be_opened_now_is_not_called_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")

    def refused(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(OSError, match="Too many open files"):
        keys.signing_key(company.backend.home)


def test_restore_onto_a_full_disk_does_not_blame_the_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = tmp_path / "good.db"
    backup.write_bytes(backup_file.SQLITE_MAGIC + bytes(100))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(PopugError) as refusal:
        backup_reader.unpack(backup, Home(tmp_path))
    assert refusal.value.code == "disk_full"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EFBIG, "disk_full"),
        (errno.EIO, "io_error"),
        (errno.EMFILE, "io_error"),
        (errno.EACCES, "unwritable_file"),
    ],
)
def test_unwritable_file_is_the_systems_or_callers_error(number: int, code: str) -> None:
    refusal = unwritable(Path("out"), OSError(number, os.strerror(number)))
    assert (refusal.code, refusal.exit_status) == (code, 2 if code == "unwritable_file" else 8)


@pytest.mark.parametrize("odd", ["\v", "\r", "\x1c", "\x85", "\u2028"])
def test_mount_point_with_an_odd_end_of_line_is_one_line(odd: str) -> None:
    mounts = [*parse_mounts(f"30 1 0:1 / /m/a{odd}b rw - fuse.bindfs src rw\n")]
    assert kind_without_locks(f"/m/a{odd}b/home", mounts) == "fuse.bindfs"


def test_doctor_without_disk_space_for_replay_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")

    def full(*_: object, **__: object) -> None:
        raise disk_full(tmp_path)

    monkeypatch.setattr(rebuild, "ScratchDatabase", full)
    for perform in (lambda: company.backend.perform(CheckHealth()), lambda: company.backend.perform(BackUp())):
        with pytest.raises(Unavailable) as refusal:
            perform()
        assert refusal.value.code == "disk_full"


def test_server_with_truncated_database_accepts_no_command(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.backend.close()
    served_company = ServedCompany(company.backend.home, threads=1)
    served_company.check()
    os.truncate(company.backend.home.database, 4096)
    with pytest.raises(Unavailable) as refusal:
        served_company.perform(AddTask(title="Sweep"), None)
    assert refusal.value.code == "server_unavailable"
    served_company.close()


def test_file_that_could_not_be_made_needs_not_be_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("popug_cli.kernel.home.replace_file", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="Read-only"), replace_restoring_on_error(tmp_path / "config.toml", b""):
        pass


def test_settings_are_not_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    with without_waiting(), pytest.raises(InvalidInput, match="pipe"):
        load_settings(tmp_path / "config.toml")


def test_database_that_is_not_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "popug.db").symlink_to("/dev/full")
    assert main.run(["--home", str(tmp_path), "balance", "--json"]) == 7
    assert "it is not a file" in capsys.readouterr().err


def test_database_that_was_emptied_is_not_taken_for_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = InProcess(tmp_path / "home").backend.home
    home.database.write_bytes(b"")
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"correct horse battery\n")))
    init = ["init", "--admin", "ada", "--email", "ada@example.com", "--time-zone", "UTC", "--password-stdin"]
    for line in (["today"], ["doctor"], init):
        assert main.run([*line, "--home", str(home.root)]) == 7
        assert "it is empty, but the home has a company's keys" in capsys.readouterr().err
        assert home.database.stat().st_size == 0


def test_init_interrupted_before_first_table_is_resumed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.database.write_bytes(b"")
    assert InProcess(home.root).act("boss", CheckHealth()).ok


def test_pipe_instead_of_server_lock_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = InProcess(tmp_path / "home").backend.home
    os.mkfifo(home.serve_lock)
    assert main.run(["serve", "--home", str(home.root)]) == 8
    assert f"{home.serve_lock} is not a file." in capsys.readouterr().err


def test_demo_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise disk_full(tmp_path)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("POPUG_HOME", raising=False)
    monkeypatch.setattr(demo, "play_morning", full)
    assert main.run(["demo", "--json"]) == 8
    assert not [*tmp_path.iterdir()]


def test_unwritable_backup_is_system_error_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Unavailable) as refusal:
        company.backend.perform(BackUp())
    assert refusal.value.code == "read_only"
    with pytest.raises(InvalidInput) as refused:
        company.backend.perform(BackUp(path=str(tmp_path / "nowhere" / "file.zip")))
    assert refused.value.code == "unwritable_file"


def cut(log: Path) -> None:
    os.truncate(log, 0)


@pytest.mark.parametrize("lose", [Path.unlink, cut])
def test_server_with_lost_wal_accepts_no_command(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    company.backend.close()
    served_company = ServedCompany(company.backend.home, threads=1)
    place = served_company.open_backend(lambda _: None)
    place.perform_as(company.people["boss"], AddTask(title="Sweep"))
    served_company.check()
    lose(company.root / "popug.db-wal")
    with pytest.raises(Unavailable) as refusal:
        served_company.perform(AddTask(title="Polish"), None)
    assert refusal.value.code == "server_unavailable"
    served_company.close()


def test_restarted_wal_counts_as_the_same_log(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    served_company = ServedCompany(company.backend.home, threads=1)
    with company.backend.runtime.writing(OPERATOR) as context:
        record(context.connection, "kesha", context.now)
    with closing(sqlite3.connect(company.root / "popug.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (company.root / "popug.db-wal").stat().st_size == 0
    served_company.check()
    served_company.close()


class FullDisk(StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_full_stderr_keeps_exit_code_and_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", FullDisk())
    assert main.run(["nosuch"]) == 2
    printer = Printer(err=FullDisk())
    printer.warn("Mail could not be sent.")
    printer.remark("This works on the home.")
    printer.line("done")
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(
    ("want", "said"),
    [
        (MemoryError(), "Cannot allocate memory"),
        (ImportError(f"_rust.so: {main.NO_MEMORY_MESSAGE} from shared object"), "Cannot allocate memory"),
        (RuntimeError(main.NO_THREAD_MESSAGE), main.NO_THREAD_MESSAGE),
    ],
)
def test_lack_of_memory_or_threads_is_a_system_error(
    want: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starved(*_: object) -> int:
        raise want

    monkeypatch.setattr(main, "_run_program", starved)
    assert main.run(["balance", "--json"]) == 8
    error = capsys.readouterr().err
    assert '"io_error"' in error
    assert said in error


def test_pipes_instead_of_keys_and_sessions_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")
    for file in (company.root / "keys").iterdir():
        file.unlink()
        os.mkfifo(file, 0o600)
    with without_waiting(), refused("key_invalid", 4):
        keys.signing_key(company.backend.home)
    with without_waiting(), refused("key_invalid", 4):
        keys._load(next((company.root / "keys").glob("*.pem")))
    os.mkfifo(tmp_path / "session", 0o600)
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session"))
    monkeypatch.delenv("POPUG_TOKEN", raising=False)
    with without_waiting(), refused("not_logged_in", 4):
        session_file.check()


def test_restore_to_read_only_place_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")
    backup = company.backend.perform(BackUp())
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Unavailable) as refusal:
        company.backend.perform(Restore(path=backup.path))
    assert refusal.value.code == "read_only"
