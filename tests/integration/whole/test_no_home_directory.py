"""An account without HOME and without an entry in /etc/passwd, as containers run programs."""

from pathlib import Path

from tests.support.namespace import run_in_namespace

NO_PASSWD_ENTRY = """
mount -t tmpfs none /mnt
cp /etc/ld.so.cache /mnt/
: > /mnt/passwd
mount --bind /mnt /etc
cd "$WORK"
popug() {
    echo seven-cages-under-9-moons | "$PYTHON" -m popug_cli "$@" > out 2> err && code=0 || code=$?
    echo "$code $* | $(head -c 300 out | head -1) | $(grep -o 'POPUG_SESSION\\|--home DIR\\|Set HOME' err | head -1)"
}
"""
INIT = "popug init --admin ada --email ada@example.com --password-stdin --time-zone UTC"


def lines_of(tmp_path: Path, script: str, **environment: str) -> list[list[str]]:
    """Run a script; return exit code and command, first line of stdout, and the way out that stderr names."""
    result = run_in_namespace(NO_PASSWD_ENTRY + script, {"WORK": str(tmp_path), **environment})
    assert result.returncode == 0, result
    assert not (tmp_path / "~").exists()
    return [[part.strip() for part in line.split("|")] for line in result.stdout.splitlines()]


def test_commands_say_the_way_out(tmp_path: Path) -> None:
    commands = [
        "balance",
        "doctor",
        "init --admin a --email a@example.com --password-stdin",
        "login ada --password-stdin",
    ]
    found = lines_of(tmp_path, "\n".join(f"popug {command}" for command in commands))
    assert [(line[0].split()[0], line[2]) for line in found] == [("2", "--home DIR")] * 4
    found = lines_of(tmp_path, f"{INIT}; popug --install-completion bash", POPUG_HOME=str(tmp_path / "home"))
    assert [(line[0].split()[0], line[2]) for line in found] == [("2", "POPUG_SESSION"), ("2", "Set HOME")]
    assert not (tmp_path / "home").exists()


def test_commands_work_with_a_home_and_a_session_file(tmp_path: Path) -> None:
    commands = ["", "today", "balance", "whoami", "permissions", "scheduler install --cron",
                "scheduler install --systemd", "doctor", "backup", "scheduler --once", "logout"]  # fmt: skip
    script = "\n".join([INIT, *(f"popug {command}" for command in commands)])
    found = lines_of(tmp_path, script, POPUG_HOME=str(tmp_path / "home"), POPUG_SESSION=str(tmp_path / "session.json"))
    assert [line for line in found if not line[0].startswith("0")] == []


def test_commands_with_a_token_need_no_session_file(tmp_path: Path) -> None:
    home, session = str(tmp_path / "home"), str(tmp_path / "session.json")
    lines_of(tmp_path, f"{INIT}; popug token issue ada --ttl 1d; cp out token", POPUG_HOME=home, POPUG_SESSION=session)
    commands = ["", "today", "balance", "scheduler install --cron", "close-day --yes", "permissions"]
    script = 'export POPUG_TOKEN="$(head -1 token)"\n' + "\n".join(f"popug {command}" for command in commands)
    found = lines_of(tmp_path, script, POPUG_HOME=home)
    assert [line for line in found if not line[0].startswith("0")] == []
    found = lines_of(tmp_path, "popug\npopug permissions\npopug balance", POPUG_HOME=home)
    assert [line[0].split()[0] for line in found] == ["0", "0", "4"]


def test_commands_that_need_no_home_work_without_one(tmp_path: Path) -> None:
    home, session = str(tmp_path / "home"), str(tmp_path / "session.json")
    lines_of(tmp_path, f"{INIT}; popug token issue ada --ttl 1d; cp out token", POPUG_HOME=home, POPUG_SESSION=session)
    script = """
popug man
popug demo
export POPUG_TOKEN="$(head -1 token)"
chmod 755 /mnt
"$PYTHON" -m popug_cli serve --home home --socket /mnt/popug.sock > served 2>&1 &
for _ in $(seq 100); do test -S /mnt/popug.sock && break; sleep 0.2; done
export POPUG_SERVER=unix:///mnt/popug.sock
popug
popug whoami
popug tasks list --all
popug today
popug backup
kill $!
wait
"""
    found = lines_of(tmp_path, script)
    assert [line[0].split()[0] for line in found] == ["0", "0", "0", "0", "0", "0", "2"]
    assert found[-1][2] == "--home DIR"
