"""Check every refusal: a sentence, a hint that can be typed, and details for a program."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from popug_cli.cli.help.surface import parse, surface
from popug_cli.kernel.errors import PopugError

COMMAND_LINE = re.compile(r"`([^`]+)`")


@contextmanager
def refused(
    code: str, exit_status: int, details: dict[str, Any] | None = None
) -> Iterator[pytest.ExceptionInfo[PopugError]]:
    """Expect the block to be refused in this way; if ``details`` are given, they must be exactly these."""
    with pytest.raises(PopugError) as error:
        yield error
    assert (error.value.code, error.value.exit_status) == (code, exit_status)
    assert_helpful(error.value)
    if details is not None:
        assert error.value.details == details


def assert_helpful(error: PopugError) -> None:
    values = (form(value) for value in error.details.values() for form in (str, repr))
    assert error.message.startswith(tuple(filter(None, values))) or error.message[0].isupper(), error.message
    assert error.hint[0].isupper(), error.hint
    for told in (error.message, error.hint):
        assert told.endswith("."), told
        assert sum(map(str.isupper, told)) < sum(map(str.islower, told)), told
    for line in COMMAND_LINE.findall(error.hint):
        program, *arguments = shlex.split(line)
        assert program != "popug" or parse(arguments).words in surface().commands, line
    assert all(re.fullmatch("[a-z_]+", name) for name in error.details), error.details
