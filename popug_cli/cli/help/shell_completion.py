"""Shell completion, from the declared commands and the company's data. After an error there are no completions.

popug offers no file names: where it offers nothing, each shell completes file names itself, and quotes them correctly.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

from popug_cli.cli.help import surface
from popug_cli.cli.help.surface import Parameter, ParsedCommandLine
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.text import escape_hidden

if TYPE_CHECKING:
    from popug_cli.kernel.home import Home

CompletionItem = tuple[str, str]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_OFFERED_DAYS = 7
IGNORED_ERRORS = (PopugError, OSError, ValueError, ImportError, LookupError, TypeError)
SAFE_WORD = re.compile(r"[A-Za-z0-9._/=+-]+")


def answer(environment: Mapping[str, str]) -> str:
    """Return the completions, or the script to install, in the format of the shell that asks; empty after an error."""
    instruction = environment.get("_POPUG_COMPLETE", "")
    if instruction.startswith("source_"):
        from popug_cli.cli.help.shell_scripts import SCRIPTS

        return SCRIPTS.get(instruction.removeprefix("source_"), "")
    complete = COMPLETERS_BY_INSTRUCTION.get(instruction)
    try:
        return complete(environment) if complete else ""
    except IGNORED_ERRORS:
        return ""


def candidates(typed_words: list[str], word: str) -> list[CompletionItem]:
    """Return the completions of ``word`` after ``typed_words``, each with its description."""
    line = surface.parse(typed_words)
    name, equals, value = word.partition("=")
    if line.option_without_value:
        return _matching(_values(line.option_without_value, word, line), word)
    if word.startswith("-") and not line.options_ended:
        if equals:
            options = [
                entry for entry in surface.surface().parameters_of(line.words) if name in entry.names and entry.value
            ]
            offers = [offer for entry in options for offer in _values(entry, value, line)]
            return _matching(((f"{name}={text}", description) for text, description in offers), word)
        return _matching(_options(line), word)
    children = surface.surface().children_of(line.words) if not line.positional and not line.options_ended else {}
    if children and line.words not in surface.surface().commands:
        return _matching(((entry, _first_sentence(target.help)) for entry, target in children.items()), word)
    arguments = [entry for entry in surface.surface().parameters_of(line.words) if not entry.is_option]
    argument = arguments[len(line.positional)] if len(line.positional) < len(arguments) else None
    suggestions = [*((entry, _first_sentence(target.help)) for entry, target in children.items())]
    return _matching([*suggestions, *(_values(argument, word, line) if argument else [])], word)


def _options(line: ParsedCommandLine) -> Iterator[CompletionItem]:
    for option in surface.surface().parameters_of(line.words):
        if option.is_option and not set(option.names) & line.options.keys():
            yield max(option.names, key=len), _first_sentence(option.help)
    yield "--help", "Show help."


def _values(parameter: Parameter, word: str, line: ParsedCommandLine) -> Iterable[CompletionItem]:
    if parameter.choices:
        return [(choice, "") for choice in parameter.choices]
    completers: dict[str, Callable[[str], Iterable[CompletionItem]]] = {
        "date": _dates,
        "day": _days,
        "zone": _zones,
        "setting": _settings,
        "setting-value": lambda _: _setting_values(line.positional),
        "event": _events,
        "hook": lambda _: _hooks(line.options),
    }
    if parameter.completes in completers:
        return completers[parameter.completes](word)
    if not parameter.completes:
        return ()
    return _from_company(parameter.completes, word, line.options)


def _from_company(kind: str, word: str, options: Mapping[str, str]) -> Iterable[CompletionItem]:
    """Return items of a kind, such as tasks, from the company of the user who is logged in."""
    from popug_cli.cli.state.session_file import token_for

    if server := options.get("--server") or os.environ.get("POPUG_SERVER"):
        from popug_cli.app.views.shell_completion import from_server
        from popug_cli.client.discovery import connect_to_url
        from popug_cli.kernel.progress import no_progress

        backend = connect_to_url(server, lambda sentence: None, no_progress)
        token = token_for(backend.address.url)
        items = from_server(backend, token, kind, word) if token else []
    else:
        from popug_cli.app.views.shell_completion import from_database, from_server, is_on_server

        home = _home(options)
        token = token_for(home)
        if token and is_on_server(home):
            from popug_cli.app.local_backend import LocalBackend

            items = from_server(LocalBackend(home), token, kind, word)
        else:
            items = from_database(home, token, kind, word) if token else []
    return [(text, escape_hidden(description)) for text, description in items]


def _home(options: Mapping[str, str]) -> "Home":
    from pathlib import Path

    from popug_cli.kernel.home import find_home

    return find_home(Path(options["--home"]) if options.get("--home") else None)


def _hooks(options: Mapping[str, str]) -> Iterator[CompletionItem]:
    for path in sorted(_home(options).hooks.glob("[!.]*")):
        yield escape_hidden(path.name), ""


def _events(word: str) -> Iterator[CompletionItem]:
    """Yield the names of all event types without module and version, such as ``task_completed``."""
    from pathlib import Path

    from popug_cli import messages

    files = Path(messages.__file__).with_name("schemas").glob("popug.*.json")
    for name in sorted({path.name.split(".")[2] for path in files}):
        yield name, ""


def _days(word: str) -> Iterator[CompletionItem]:
    """Yield dates and weekdays."""
    yield from _dates(word)
    for day in WEEKDAYS:
        yield day, ""


def _dates(word: str) -> Iterator[CompletionItem]:
    """Yield today, yesterday and the last ``MAX_OFFERED_DAYS`` dates."""
    today = date.today()
    yield "today", ""
    yield "yesterday", ""
    for days_ago in range(MAX_OFFERED_DAYS):
        day = today - timedelta(days=days_ago)
        yield day.isoformat(), WEEKDAYS[day.weekday()].capitalize()


def _zones(word: str) -> Iterator[CompletionItem]:
    from importlib.resources import files

    from popug_cli.kernel.calendar import NON_ZONE_NAMES

    for line in (files("tzdata") / "zones").read_text(encoding="utf-8").splitlines():
        if line not in NON_ZONE_NAMES:
            yield line, ""


def _settings(word: str) -> Iterator[CompletionItem]:
    from popug_cli.kernel.settings import SETTINGS

    for key, setting in SETTINGS.items():
        yield key, setting.help


def _setting_values(words: list[str]) -> Iterator[CompletionItem]:
    """Yield the values of the setting in ``words``, if it is a switch or a choice."""
    from popug_cli.kernel.settings import SETTINGS

    setting = SETTINGS.get(words[0])
    if setting is not None:
        for value in ("true", "false") if isinstance(setting.default, bool) else setting.choices:
            yield value, ""


def _matching(suggestions: Iterable[CompletionItem], word: str) -> list[CompletionItem]:
    return [(text, description) for text, description in suggestions if text.startswith(word)]


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def _bash(environment: Mapping[str, str]) -> str:
    """Return lines that bash inserts as they are; leave out words that would need quotes.

    Bash splits ``--status=op`` into three words, and replaces only the last one.
    """
    words = _split(environment["COMP_WORDS"])
    index = int(environment["COMP_CWORD"])
    before, word = words[1:index], words[index] if index < len(words) else ""
    prefix = ""
    if word == "=" and before:
        before, word, prefix = before[:-1], f"{before[-1]}=", f"{before[-1]}="
    elif len(before) > 1 and before[-1] == "=":
        before, word, prefix = before[:-2], f"{before[-2]}={word}", f"{before[-2]}="
    found = [text.removeprefix(prefix) for text, _ in candidates(_join_values(before), word)]
    return "".join(f"{text}\n" for text in found if SAFE_WORD.fullmatch(text))


def _join_values(words: list[str]) -> list[str]:
    """Join each ``--option``, ``=`` and value, and each value with colons, such as a URL, that bash split."""
    joined: list[str] = []
    for word in words:
        after_option = joined and joined[-1].startswith("--") and (word == "=" or joined[-1].endswith("="))
        if after_option or (joined and (word.startswith(":") or joined[-1].endswith(":"))):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _zsh(environment: Mapping[str, str]) -> str:
    """Return lines for ``_describe``, which does not evaluate them."""
    suggestions = candidates(*_words_and_prefix(environment["POPUG_TYPED"]))
    return "".join(
        f"{text.replace(':', chr(92) + ':')}:{description}\n" if description else f"{text}\n"
        for text, description in suggestions
    )


def _zsh_for_typer(environment: Mapping[str, str]) -> str:
    """Return text for completion scripts that Typer made. They evaluate it, so it has only safe words."""
    words = [
        text
        for text, _ in candidates(*_words_and_prefix(environment["_TYPER_COMPLETE_ARGS"]))
        if SAFE_WORD.fullmatch(text)
    ]
    return f"_arguments '*: :(({' '.join(words)}))'" if words else "_files"


def _fish(environment: Mapping[str, str]) -> str:
    suggestions = candidates(*_words_and_prefix(environment["_TYPER_COMPLETE_ARGS"]))
    return "".join(f"{text}\t{description}\n" if description else f"{text}\n" for text, description in suggestions)


def _words_and_prefix(line: str) -> tuple[list[str], str]:
    """Return the complete words after the program's name, and the incomplete one."""
    words = _split(line)[1:]
    if not words or line[-1:].isspace():
        return words, ""
    return words[:-1], words[-1]


def _split(line: str) -> list[str]:
    """Split a line into words as the shell does; close an open quotation."""
    for closing in ("", '"', "'", "\\"):
        try:
            return shlex.split(line + closing)
        except ValueError:
            continue
    return line.split()


COMPLETERS_BY_INSTRUCTION: dict[str, Callable[[Mapping[str, str]], str]] = {
    "complete_bash": _bash,
    "describe_zsh": _zsh,
    "complete_zsh": _zsh_for_typer,
    "complete_fish": _fish,
}
