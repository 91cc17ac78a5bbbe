"""Scripts that add popug to the completion of bash, zsh and fish."""

import os
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput, Unavailable

BASH = """\
_popug_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _POPUG_COMPLETE=complete_bash "$1" 2>/dev/null ) )
    return 0
}
complete -o default -F _popug_completion popug
"""
ZSH = """\
#compdef popug
_popug_completion() {
  local -a found
  found=("${(@f)$(env POPUG_TYPED="${words[1,$CURRENT]}" _POPUG_COMPLETE=describe_zsh ${words[1]} 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then _describe popug found; else compset -P 1 '--*='; _files; fi
}
if [[ "$funcstack[1]" = "_popug" ]]; then _popug_completion "$@"; else compdef _popug_completion popug; fi
"""
FISH = """\
function _popug_completion
    set --global _popug_found (env _POPUG_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \\
        _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) (commandline -op)[1] 2>/dev/null)
    test (count $_popug_found) -gt 0
end
complete --command popug --no-files --condition _popug_completion --arguments '$_popug_found'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
ZSH_STARTUP_LINE = "fpath+=~/.zfunc; autoload -Uz compinit; compinit"


def script(shell: str | None) -> str:
    """Return the script of a shell, by default of the current one; raise ``usage`` for other shells."""
    return SCRIPTS[_supported_shell(shell)]


def install(shell: str | None) -> str:
    """Install the script for a shell, by default the current one, and return a sentence that says so.

    Raise ``usage`` for other shells, ``foreign_owner`` as the superuser in the home directory of another account, and
    ``read_only`` for a file that cannot be written.
    """
    from popug_cli.kernel import disk_errors
    from popug_cli.platform.accounts import ForeignOwnerError, require_own_place

    name = _supported_shell(shell)
    home = Path.home()
    file, startup_file, line = {
        "bash": (
            home / ".bash_completions" / "popug.sh",
            home / ".bashrc",
            f"source {_single_quoted(home / '.bash_completions' / 'popug.sh')}",
        ),
        "zsh": (home / ".zfunc" / "_popug", home / ".zshrc", ZSH_STARTUP_LINE),
        "fish": (home / ".config" / "fish" / "completions" / "popug.fish", None, ""),
    }[name]
    try:
        require_own_place(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SCRIPTS[name], encoding="utf-8")
        if startup_file is not None:
            _add_startup_line(startup_file, line)
    except ForeignOwnerError as error:
        raise disk_errors.foreign_owner(error) from error
    except OSError as error:
        raise Unavailable(
            "read_only",
            f"{error.filename} cannot be written: {error.strerror}.",
            hint=f"Let your shell run the output of `popug --show-completion {name}`.",
        ) from error
    return f"Installed completion for {name} in {file}. It works from the next start of {name}."


def _single_quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"


def _add_startup_line(startup_file: Path, line: str) -> None:
    content = startup_file.read_text(encoding="utf-8") if startup_file.exists() else ""
    if line not in content.splitlines():
        with startup_file.open("a", encoding="utf-8") as file:  # a kill or a full disk cannot remove the user's lines
            file.write(("" if content.endswith("\n") or not content else "\n") + line + "\n")


def _supported_shell(shell: str | None) -> str:
    name = shell or _current_shell()
    if name not in SCRIPTS:
        sentence = f"popug has no completion for {name!r}." if name else "popug could not detect your shell."
        raise InvalidInput("usage", sentence, hint="Name one: --show-completion bash, zsh or fish.")
    return name


def _current_shell() -> str:
    """Return the supported shell that runs this program, else the login shell; empty if neither is known."""
    try:
        parent = Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        parent = ""
    return parent if parent in SCRIPTS else Path(os.environ.get("SHELL", "")).name
