"""The results of mutmut: each mutant with its changed lines and its status."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

UNDECIDED = {"not checked", "check was interrupted by user"}
ALIVE = {"survived", "no tests"}


class Mutant:
    """A function of the program with one change."""

    def __init__(self, name: str, path: Path, exit_code: int | None) -> None:
        self.name = name
        self.path = path
        self.verdict = status_by_exit_code[exit_code]

    @property
    def package(self) -> str:
        return self.name.split(".")[1]

    @property
    def function(self) -> str:
        """Return the module within popug_cli, the class if any, and the function."""
        function, in_class = orig_function_and_class_names_from_key(self.name)
        module = self.name.removeprefix("popug_cli.").rpartition(".")[0]
        return ".".join(part for part in (module, in_class, function) if part)

    @cached_property
    def difference(self) -> tuple[str, str]:
        """Return the line of the source and its replacement; several are joined, indentation is left out."""
        lines = get_diff_for_mutant(self.name, path=self.path).splitlines()[3:]
        was, became = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
        return was, became


def mutants(patterns: list[str]) -> Iterator[Mutant]:
    """Return all mutants whose name matches one of the patterns."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield Mutant(name, path, exit_code)
