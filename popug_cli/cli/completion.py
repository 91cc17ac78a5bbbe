"""What may be typed next, from the surface and from a glance at the company; silent where anything is missing."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

from popug_cli import messages
from popug_cli.cli import surface
from popug_cli.cli.surface import Line, Parameter
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home, locate
from popug_cli.kernel.progress import silent
from popug_cli.kernel.text import visible

Candidate = tuple[str, str]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAYS_OFFERED = 7
NOT_WORTH_A_WORD = (PopugError, OSError, ValueError, ImportError, LookupError, TypeError)
HARMLESS = re.compile(r"[A-Za-z0-9._/=-]+")


def answer(environment: Mapping[str, str]) -> str:
    """What a shell is told, in its own way."""
    asked = environment.get("_POPUG_COMPLETE", "")
    if asked.startswith("source_"):
        from popug_cli.cli.shells import SCRIPTS

        return SCRIPTS.get(asked.removeprefix("source_"), "")
    ask = WAYS.get(asked)
    try:
        return ask(environment) if ask else ""
    except NOT_WORTH_A_WORD:
        return ""


def candidates(before: list[str], word: str) -> list[Candidate]:
    """What may stand in the place of a word behind others, each with what it means."""
    line = surface.read(before)
    name, equals, value = word.partition("=")
    if line.waiting:
        return _starting(_values(line.waiting, word, line), word)
    if word.startswith("-") and not line.only_rest:
        if equals:
            found = [each for each in surface.surface().takes(line.words) if name in each.names and each.value]
            offers = [offer for each in found for offer in _values(each, value, line)]
            return _starting(((f"{name}={text}", help_) for text, help_ in offers), word)
        return _starting(_options(line), word)
    below = surface.surface().below(line.words) if not line.rest and not line.only_rest else {}
    if below and line.words not in surface.surface().commands:
        return _starting(((each, _sentence(of.help)) for each, of in below.items()), word)
    arguments = [each for each in surface.surface().takes(line.words) if not each.is_option]
    argument = arguments[len(line.rest)] if len(line.rest) < len(arguments) else None
    offered = [*((each, _sentence(of.help)) for each, of in below.items())]
    return _starting([*offered, *(_values(argument, word, line) if argument else [])], word)


def _options(line: Line) -> Iterator[Candidate]:
    for each in surface.surface().takes(line.words):
        if each.is_option and not set(each.names) & line.options.keys():
            yield max(each.names, key=len), _sentence(each.help)
    yield "--help", "Show what it takes."


def _values(parameter: Parameter, word: str, line: Line) -> Iterable[Candidate]:
    if parameter.choices:
        return [(choice, "") for choice in parameter.choices]
    offer: dict[str, Callable[[str], Iterable[Candidate]]] = {
        "date": _dates,
        "day": _days,
        "file": _paths,
        "directory": _paths,
        "zone": _zones,
        "setting": _settings,
        "setting-value": lambda _: _setting_values(line.rest),
        "event": _events,
        "hook": lambda _: _hooks(line.options),
    }
    if parameter.completes in offer:
        return offer[parameter.completes](word)
    if not parameter.completes:
        return ()
    return _in_company(parameter.completes, word, line.options)


def _in_company(kind: str, word: str, options: Mapping[str, str]) -> Iterable[Candidate]:
    """What the logged-in person's company has of a kind."""
    from popug_cli.cli.session_file import token_for

    if server := options.get("--server") or os.environ.get("POPUG_SERVER"):
        from popug_cli.app.glance import ask
        from popug_cli.app.reach import server_at

        place = server_at(server, lambda sentence: None, silent)
        token = token_for(place.address.url)
        found = ask(place, token, kind, word) if token else []
    else:
        from popug_cli.app.glance import look

        home = _home(options)
        token = token_for(home)
        found = look(home, token, kind, word) if token else []
    return [(text, visible(help_)) for text, help_ in found]


def _home(options: Mapping[str, str]) -> Home:
    return locate(Path(options["--home"]) if options.get("--home") else None)


def _hooks(options: Mapping[str, str]) -> Iterator[Candidate]:
    for path in sorted(_home(options).hooks.glob("[!.]*")):
        yield visible(path.name), ""


def _events(word: str) -> Iterator[Candidate]:
    """The middle names of all types of events."""
    files = Path(messages.__file__).with_name("schemas").glob("popug.*.json")
    for name in sorted({path.name.split(".")[2] for path in files}):
        yield name, ""


def _days(word: str) -> Iterator[Candidate]:
    """Dates, and the days of the last week by their names."""
    yield from _dates(word)
    for day in WEEKDAYS:
        yield day, ""


def _dates(word: str) -> Iterator[Candidate]:
    today = date.today()
    yield "today", ""
    yield "yesterday", ""
    for back in range(DAYS_OFFERED):
        day = today - timedelta(days=back)
        yield day.isoformat(), WEEKDAYS[day.weekday()].capitalize()


def _paths(word: str) -> Iterator[Candidate]:
    folder, slash, start = word.rpartition("/")
    with os.scandir(Path(folder + slash or ".").expanduser()) as found:
        for entry in sorted(found, key=lambda each: each.name):
            if start or not entry.name.startswith("."):
                yield folder + slash + entry.name + ("/" if entry.is_dir() else ""), ""


def _zones(word: str) -> Iterator[Candidate]:
    from importlib.resources import files

    for line in (files("tzdata") / "zones").read_text(encoding="utf-8").splitlines():
        yield line, ""


def _settings(word: str) -> Iterator[Candidate]:
    from popug_cli.kernel.settings import SETTINGS

    for key, setting in SETTINGS.items():
        yield key, setting.help


def _setting_values(words: list[str]) -> Iterator[Candidate]:
    """What the setting that was named just before may be, as far as that is a choice."""
    from popug_cli.kernel.settings import SETTINGS

    setting = SETTINGS.get(words[0])
    if setting is not None:
        for value in ("true", "false") if isinstance(setting.default, bool) else setting.choices:
            yield value, ""


def _starting(offered: Iterable[Candidate], word: str) -> list[Candidate]:
    return [(text, help_) for text, help_ in offered if text.startswith(word)]


def _sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def _bash(environment: Mapping[str, str]) -> str:
    words = _split(environment["COMP_WORDS"])
    at = int(environment["COMP_CWORD"])
    word = words[at] if at < len(words) else ""
    return "".join(f"{text}\n" for text, _ in candidates(words[1:at], "" if word == "=" else word))


def _zsh(environment: Mapping[str, str]) -> str:
    """Lines for ``_describe``; nothing in them is ever run."""
    found = candidates(*_typed(environment["POPUG_TYPED"]))
    return "".join(f"{text.replace(':', chr(92) + ':')}:{help_}\n" if help_ else f"{text}\n" for text, help_ in found)


def _zsh_to_run(environment: Mapping[str, str]) -> str:
    """What scripts that Typer made evaluate: words without any meaning for the shell."""
    found = [text for text, _ in candidates(*_typed(environment["_TYPER_COMPLETE_ARGS"])) if HARMLESS.fullmatch(text)]
    return f"_arguments '*: :(({' '.join(found)}))'" if found else "_files"


def _fish(environment: Mapping[str, str]) -> str:
    found = candidates(*_typed(environment["_TYPER_COMPLETE_ARGS"]))
    return "".join(f"{text}\t{help_}\n" if help_ else f"{text}\n" for text, help_ in found)


def _typed(line: str) -> tuple[list[str], str]:
    """The words behind the program's name that are complete, and the one that is not."""
    words = _split(line)[1:]
    if not words or line[-1:].isspace():
        return words, ""
    return words[:-1], words[-1]


def _split(line: str) -> list[str]:
    """The words as the shell has them; an open quotation is closed."""
    for closing in ("", '"', "'", "\\"):
        try:
            return shlex.split(line + closing)
        except ValueError:
            continue
    return line.split()


WAYS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "complete_bash": _bash,
    "describe_zsh": _zsh,
    "complete_zsh": _zsh_to_run,
    "complete_fish": _fish,
}
