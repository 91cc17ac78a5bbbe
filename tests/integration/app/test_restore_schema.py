"""A restore believes neither the schema nor the users of a file, and keeps the home's own settings of mail."""

import re
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.company import BackUp, CheckHealth, Restore, RestoreResult
from popug_cli.messages.identity import IssueToken, LogIn, LogOut, SetPassword, SetRole
from popug_cli.storage import foreign_database
from popug_cli.storage.migrate import NEWEST, SCRIPTS
from popug_cli.storage.schema import SELECT_OBJECTS, differences, expected_objects
from tests.generate import database_schema
from tests.support.company import PASSWORD, InProcess
from tests.support.ledger_company import company, company_with_a_past, tamper

__all__ = ["company"]

RENEW = "Run `python -m tests.generate`."
ENDLESS_QUERY = "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT max(n) FROM endless"
SCHEMA_CHANGES = {
    "append-only trigger dropped": "DROP TRIGGER bus_log_no_update",
    "every trigger of a table dropped": "DROP TRIGGER identity_users_no_delete",
    "trigger that undoes a revocation": """
        CREATE TRIGGER tokens_stay AFTER UPDATE OF revoked_at ON identity_tokens
        BEGIN UPDATE identity_tokens SET revoked_at = NULL WHERE token_id = NEW.token_id; END""",
    "trigger that makes a worker admin": """
        CREATE TRIGGER promote AFTER INSERT ON identity_tokens
        BEGIN UPDATE identity_users SET role = 'admin' WHERE username = 'kesha'; END""",
    "trigger under a name of popug": """
        DROP TRIGGER bus_log_no_update;
        CREATE TRIGGER bus_log_no_update BEFORE UPDATE ON bus_log BEGIN SELECT 1; END""",
    "view": "CREATE VIEW reports AS SELECT * FROM identity_users",
    "endless view": f"CREATE VIEW reports AS {ENDLESS_QUERY}",
    "table": "CREATE TABLE notes (text)",
    "virtual table": "CREATE VIRTUAL TABLE search USING fts5(text)",
    "column": "ALTER TABLE identity_users ADD COLUMN shadow TEXT",
    "index dropped": "DROP INDEX bus_log_id",
    "index added": "CREATE INDEX mine ON identity_users (lower(email))",
    "constraint removed": """
        PRAGMA writable_schema=ON;
        UPDATE sqlite_master SET sql = replace(sql, 'CHECK (role IN', 'CHECK (1 OR role IN')
        WHERE name = 'identity_users'""",
    "name that looks like statistics": "CREATE TABLE stat1 (x); PRAGMA writable_schema=ON;"
    " UPDATE sqlite_master SET name = 'sqlite_stat1', tbl_name = 'sqlite_stat1',"
    " sql = 'CREATE TABLE sqlite_stat1 (x)' WHERE name = 'stat1'",
}
DATA_CHANGES = {
    "admin that no event registers": """
        INSERT INTO identity_users SELECT 'u-1', 'eve', 'eve@example.com', 'eve@example.com', 'admin', 1, password_hash,
        registered_at FROM identity_users WHERE username = 'kesha'""",
    "role": "UPDATE identity_users SET role = 'admin' WHERE username = 'kesha';"
    " UPDATE mail_receivers SET role = 'admin' WHERE username = 'kesha'",
    "address": "UPDATE identity_users SET email = 'eve@example.com', email_key = 'eve@example.com'"
    " WHERE username = 'boss'; UPDATE mail_receivers SET email = 'eve@example.com' WHERE username = 'boss'",
    "key of an address": "UPDATE identity_users SET email_key = 'other@example.com' WHERE username = 'boss'",
    "activity": "UPDATE identity_users SET active = 0 WHERE username = 'gosha';"
    " UPDATE mail_receivers SET active = 0 WHERE username = 'gosha'",
    "another password": "UPDATE identity_users SET password_hash ="
    " '$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g'"
    " WHERE username = 'boss'",
    "password of another user": "UPDATE identity_users SET password_hash ="
    " (SELECT password_hash FROM identity_users WHERE username = 'kesha') WHERE username = 'boss'",
    "password removed": "UPDATE identity_users SET password_hash = NULL WHERE username = 'boss'",
    "password of a user without": "UPDATE identity_users SET password_hash ="
    " (SELECT password_hash FROM identity_users WHERE username = 'boss') WHERE username = 'gosha'",
    "time of registration": "UPDATE identity_users SET registered_at = '2020-01-01T00:00:00.000000Z'"
    " WHERE username = 'boss'; UPDATE billing_accounts SET registered_at = '2020-01-01T00:00:00.000000Z'"
    " WHERE username = 'boss'",
    "revocation undone": "UPDATE identity_tokens SET revoked_at = NULL",
    "revocation moved": "UPDATE identity_tokens SET revoked_at = '2026-03-05T00:00:00.000000Z' WHERE revoked_at > ''",
    "token revoked without event": "UPDATE identity_tokens SET revoked_at = issued_at WHERE revoked_at IS NULL",
    "token that no event issues": """
        INSERT INTO identity_tokens SELECT 't-1', user_id, kind, scope, issued_at, expires_at, NULL, NULL
        FROM identity_tokens LIMIT 1""",
    "scope of a token": "UPDATE identity_tokens SET scope = NULL WHERE scope = 'close-day'",
    "owner of a token": "UPDATE identity_tokens SET user_id ="
    " (SELECT user_id FROM identity_users WHERE username = 'boss')",
    "life of a token": "UPDATE identity_tokens SET expires_at = '2036-03-05T00:00:00.000000Z'",
    "token removed": "DELETE FROM identity_tokens",
}

COPY_CHANGES = {
    "receiver of summaries": "INSERT INTO mail_receivers VALUES ('u-1', 'eve', 'eve@example.com', 'admin', 1)",
    "user without tasks": "INSERT INTO tasks_people VALUES ('u-1', 'eve', 'admin', 1, 0, 1)",
    "account": "INSERT INTO billing_accounts VALUES ('u-1', 'employee', 'eve', 0, '2026-03-02T00:00:00.000000Z')",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A company in which users and tokens changed in every way that identity knows."""
    company = company_with_a_past(tmp_path_factory.mktemp("original"))
    company.act("boss", SetRole(username="ara.b-c_d", role="manager"))
    company.act("boss", SetPassword(username="kesha", password=PASSWORD + "2"))
    token = company.backend.perform(LogIn(username="kesha", password=PASSWORD + "2")).token
    company.backend.perform(LogOut(), token)
    company.backend.perform(LogIn(username="boss", password=PASSWORD))
    company.act("boss", IssueToken(username="kesha", ttl_seconds=86_400, scope="close-day"))  # type: ignore[arg-type]
    return company


def run(company: InProcess, script: str) -> None:
    company.backend.close()
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as database:
        database.executescript(script)


def failed_checks(company: InProcess) -> list[str]:
    return [check.name for check in company.backend.perform(CheckHealth()).checks if not check.ok]


def restore(company: InProcess, file: Path, *, take_mail_settings: bool = False) -> RestoreResult:
    return company.backend.perform(Restore(path=str(file), take_mail_settings=take_mail_settings))


def refusal(company: InProcess, tmp_path: Path) -> PopugError:
    """Return the error of a restore of the company's database from an archive as `popug backup` writes it."""
    company.backend.close()
    with zipfile.ZipFile(tmp_path / "given", "w") as archive:
        archive.write(company.root / "popug.db", "popug.db")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(PopugError) as refused:
        restore(company, tmp_path / "given")
    assert {path.name for path in tmp_path.iterdir()} == before
    return refused.value


def test_sound_company_passes(company: InProcess, tmp_path: Path) -> None:
    company.backend.home.make()
    assert failed_checks(company) == ["keys"]
    backup = company.backend.perform(BackUp(path=str(tmp_path / "good")))
    restore(company, Path(backup.path))
    assert failed_checks(company) == []


@pytest.mark.parametrize("change", SCHEMA_CHANGES)
def test_changed_schema_is_refused_and_reported(company: InProcess, tmp_path: Path, change: str) -> None:
    run(company, SCHEMA_CHANGES[change])
    assert "schema" in failed_checks(company)
    error = refusal(company, tmp_path)
    assert error.exit_status == 7
    assert "schema" in error.message


def test_second_recorded_version_is_refused_and_reported(company: InProcess, tmp_path: Path) -> None:
    run(company, "INSERT INTO alembic_version VALUES ('0001')")
    assert "schema" in failed_checks(company)
    assert "0001" in refusal(company, tmp_path).message


def test_too_old_recorded_version_is_damage(company: InProcess) -> None:
    run(company, "UPDATE alembic_version SET version_num = '0009'")
    with pytest.raises(PopugError) as refused:
        company.backend.perform(CheckHealth())
    assert refused.value.code == "corrupt_database"


@pytest.mark.parametrize("change", DATA_CHANGES)
def test_changed_identity_is_refused_and_reported(company: InProcess, tmp_path: Path, change: str) -> None:
    tamper(company, *DATA_CHANGES[change].split(";"))
    assert {"users_match_events", "tokens_match_events"} & {*failed_checks(company)}
    error = refusal(company, tmp_path)
    assert (error.code, error.exit_status) == ("integrity", 7)


@pytest.mark.parametrize("change", COPY_CHANGES)
def test_user_only_in_a_copy_is_refused_and_reported(company: InProcess, tmp_path: Path, change: str) -> None:
    run(company, COPY_CHANGES[change])
    assert "user_copies_agree" in failed_checks(company)
    assert "eve" in refusal(company, tmp_path).message


def test_analyzed_database_is_sound(company: InProcess) -> None:
    run(company, "ANALYZE; VACUUM")
    assert failed_checks(company) == []


def test_damaged_index_is_refused_and_reported(company: InProcess, tmp_path: Path) -> None:
    """The index says that the first event has another id than its envelope says."""
    (first,) = company.rows("SELECT id FROM bus_log WHERE sequence = 1")
    run(company, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = company.root / "popug.db"
    content = bytearray(file.read_bytes())
    (place,) = [found.end() for found in re.finditer(b'(?<!")' + first["id"].encode(), content)]
    content[place - 1] ^= 1
    file.write_bytes(content)
    assert failed_checks(company) == ["database"]
    error = refusal(company, tmp_path)
    assert (error.code, error.exit_status) == ("corrupt_database", 7)
    assert "index" in error.message


def test_endless_pages_end_with_the_time_limit(
    company: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_database, "MIN_TIME_LIMIT_SECONDS", -1000)
    monkeypatch.setattr(foreign_database, "PROGRESS_STEPS", 10)
    assert "takes too long" in refusal(company, tmp_path).message


def test_generated_schema_is_that_of_the_migrations() -> None:
    assert database_schema.FILE.read_text(encoding="utf-8") == database_schema.document(), RENEW


@pytest.mark.parametrize("number", sorted(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*.py")))
def test_schema_of_every_version_is_known(number: str) -> None:
    assert expected_objects(number) == database_schema.objects_after(number), RENEW


def test_repeated_object_does_not_hide_another(company: InProcess) -> None:
    """Two rows of the schema may have the same name if someone edits it; SQLite then uses one of them."""
    run(
        company,
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_master SELECT type, name, tbl_name, rootpage,"
        " replace(sql, 'RAISE', 'abs') FROM sqlite_master WHERE name = 'identity_users_no_delete'",
    )
    with closing(sqlite3.connect(company.root / "popug.db")) as database:
        database.execute("PRAGMA writable_schema=ON")
        assert list(differences(database.execute(SELECT_OBJECTS), NEWEST)) == [
            "the trigger identity_users_no_delete was changed"
        ]


OWN = '[mail]\nfrom = "own@example.com"\nsmtp_host = "own.example.com"\n'
FOREIGN = '# theirs\n[bus]\nmax_attempts = 7 # seven\n\n[mail]\nfrom = "eve@example.com"\ntransport = "smtp"\n'


@pytest.mark.parametrize("foreign", [FOREIGN, 'mail.from = "eve@example.com"\nbus.max_attempts = 7\n'])
def test_home_keeps_its_own_settings_of_mail(company: InProcess, tmp_path: Path, foreign: str) -> None:
    config = company.backend.home.config
    config.write_text(foreign)
    backup = Path(company.backend.perform(BackUp(path=str(tmp_path / "backup"))).path)
    config.write_text(OWN)
    differences = {each.key: each for each in restore(company, backup).settings}
    assert (differences["mail.from"].home, differences["mail.from"].backup) == ("own@example.com", "eve@example.com")
    assert [key for key, each in differences.items() if key.startswith("mail.") and not each.kept] == []
    assert (differences["bus.max_attempts"].backup, differences["bus.max_attempts"].kept) == (7, False)
    settings = company.backend.runtime.settings
    assert (settings.text("mail.from"), settings.text("mail.smtp_host")) == ("own@example.com", "own.example.com")
    assert (settings.text("mail.transport"), settings.number("bus.max_attempts")) == ("maildir", 7)
    assert ("# theirs" in config.read_text()) == ("# theirs" in foreign)
    assert config.stat().st_mode & 0o777 == 0o600


def test_home_without_settings_keeps_the_defaults_of_mail(company: InProcess, tmp_path: Path) -> None:
    company.backend.home.config.write_text(FOREIGN)
    backup = Path(company.backend.perform(BackUp(path=str(tmp_path / "backup"))).path)
    company.backend.home.config.unlink()
    assert {each.key for each in restore(company, backup).settings if each.kept} == {"mail.from", "mail.transport"}
    assert company.backend.runtime.settings.text("mail.transport") == "maildir"


def test_settings_of_mail_are_taken_on_request(company: InProcess, tmp_path: Path) -> None:
    company.backend.home.config.write_text(FOREIGN)
    backup = Path(company.backend.perform(BackUp(path=str(tmp_path / "backup"))).path)
    company.backend.home.config.write_text(OWN)
    assert not any(each.kept for each in restore(company, backup, take_mail_settings=True).settings)
    assert company.backend.home.config.read_text() == FOREIGN


def test_unreadable_settings_of_the_home_stop_the_restore(company: InProcess, tmp_path: Path) -> None:
    backup = Path(company.backend.perform(BackUp(path=str(tmp_path / "backup"))).path)
    company.backend.home.config.write_text("[[[")
    with pytest.raises(PopugError, match="cannot be kept") as refused:
        restore(company, backup)
    assert "--mail-settings" in refused.value.hint
    assert restore(company, backup, take_mail_settings=True).replaced
