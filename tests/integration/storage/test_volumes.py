"""A home that is a volume of a container, and settings that are one mounted file, on real mounts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.company import BackUp, CheckHealth, Restore
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.storage import volume_swap
from tests.support.company import InProcess
from tests.support.namespace import run_in_namespace

RESTORE = '"$PYTHON" -m popug_cli --home "$VOLUME" restore "$BACKUP" --yes --json; ls -A "$VOLUME" >&2;'
LOOK = 'stat -c %a "$VOLUME" >&2; "$PYTHON" -m popug_cli --home "$VOLUME" doctor --json | head -c 11'


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """A company with one task, of which a backup exists, and with another task since."""
    company = InProcess(tmp_path / "parent" / "home")
    company.hire("kesha")
    company.act("boss", AddTask(title="Feed the cage"))
    company.backend.perform(BackUp(path=str(tmp_path / "backup")))
    company.act("boss", AddTask(title="Polish the perch"))
    return company


def titles(home: Path, company: InProcess) -> list[str]:
    """Return the titles in a home, without a login."""
    backend = LocalBackend(Home(home), clock=company.clock)
    try:
        listed = backend.perform_as(company.people["boss"], ListTasks(status=StatusFilter.ALL))
        return [task.title for task in listed.tasks]
    finally:
        backend.close()


@pytest.mark.parametrize("mount", ["mount -t tmpfs none", 'mount --bind "$VOLUME"'])
@pytest.mark.parametrize("content", ["full", "lost+found", "empty"])
def test_restore_into_a_volume(tmp_path: Path, company: InProcess, mount: str, content: str) -> None:
    company.backend.close()
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)
    fill = {"full": 'cp -a "$HOME_OF_COMPANY"/. "$VOLUME"/;', "lost+found": 'mkdir "$VOLUME/lost+found";', "empty": ""}
    result = run_in_namespace(
        f'{mount} "$VOLUME"; {fill[content]} {RESTORE} {LOOK}',
        {"VOLUME": str(volume), "BACKUP": str(tmp_path / "backup"), "HOME_OF_COMPANY": str(company.root)},
    )
    assert result.returncode == 0, result
    answer, looked = result.stdout.splitlines()
    kept = json.loads(answer)["replaced"]
    assert (kept is not None) == (content == "full"), result
    assert looked == '{"ok":true,', result
    assert ".restore." not in result.stderr
    assert content == "full" or "\n700\n" in result.stderr, result
    assert ("before-restore-" in result.stderr) == (content == "full")


def test_settings_in_a_single_mounted_file_are_changed(tmp_path: Path, company: InProcess) -> None:
    company.backend.close()
    mounted = tmp_path / "mounted.toml"
    mounted.write_text("[mail]\nsmtp_port = 2525\n")
    (company.root / "config.toml").touch(mode=0o600)
    config, popug = company.root / "config.toml", f'"$PYTHON" -m popug_cli --home {company.root}'
    result = run_in_namespace(
        f"mount --bind {mounted} {config}; {popug} config set mail.smtp_host mx.example;"
        f' {popug} restore {tmp_path / "backup"} --yes || echo "restore: $?"; {popug} doctor'
    )
    assert result.returncode == 0, result
    assert mounted.read_text() == '[mail]\nsmtp_port = 2525\nsmtp_host = "mx.example"\n', result
    assert "restore: 1" not in result.stdout, result


@pytest.fixture
def in_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each home count as a volume."""
    monkeypatch.setattr(volume_swap, "is_needed", lambda home: True)


@pytest.mark.usefixtures("in_volume")
def test_old_content_is_kept_inside(tmp_path: Path, company: InProcess) -> None:
    (company.root / "hooks").mkdir()
    for _ in range(2):
        restored = company.backend.perform(Restore(path=str(tmp_path / "backup")))
        assert titles(company.root, company) == ["Feed the cage"]
    kept = sorted(company.root.glob("before-restore-*"))
    assert [str(kept[1])] == [restored.replaced]
    assert titles(kept[0], company) == ["Feed the cage", "Polish the perch"]
    assert (kept[0] / "hooks").is_dir()
    assert not [*company.root.glob(".restore*")]


@pytest.mark.usefixtures("in_volume")
@pytest.mark.parametrize("point", range(16))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_restore_leaves_the_old_or_is_finished(
    tmp_path: Path, company: InProcess, monkeypatch: pytest.MonkeyPatch, point: int, error: Callable[..., BaseException]
) -> None:
    rename, count = Path.rename, 0

    def fail(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == point + 1:
            raise error(5, "Input/output error")
        return rename(path, target)

    is_interrupted = False
    before = titles(company.root, company)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        try:
            company.backend.perform(Restore(path=str(tmp_path / "backup")))
        except (KeyboardInterrupt, Unavailable):
            is_interrupted = True
    assert is_interrupted == (point < count)
    found = titles(company.root, company)
    assert found in (["Feed the cage"], before)
    assert len(before) == 2
    backend = LocalBackend(Home(company.root), clock=company.clock)
    assert backend.perform(CheckHealth()).ok
    backend.close()
    assert not [*company.root.glob(".restore*")]
