"""The signal behind an error that a clean-up raised."""

import signal
from itertools import pairwise

from popug_cli.platform.signals import Terminated, find_in_context, find_interrupt, interrupt_message


def error_during(*during: BaseException) -> BaseException:
    """The last of some exceptions, each raised while the one before it ended the work."""
    for before, after in pairwise(during):
        after.__context__ = before
    return during[-1]


def test_nearest_of_kinds_is_found() -> None:
    first, second = KeyError("1"), KeyError("2")
    error = error_during(first, second, ValueError())
    assert find_in_context(error, KeyError) is second
    assert find_in_context(error, (KeyError, ValueError)) is error
    assert find_in_context(error, OSError) is None


def test_exceptions_can_be_skipped() -> None:
    class Stop(BaseException):
        """As a scheduler raises it in its own thread."""

    stop = Stop()
    error = error_during(KeyError(), stop, ValueError(), TypeError())
    assert find_in_context(error, BaseException, except_for=(Exception,)) is stop
    assert find_in_context(KeyError(), BaseException, except_for=(Exception,)) is None


def test_interrupt_is_found_behind_error() -> None:
    stop = Terminated(signal.SIGTERM)
    assert find_interrupt(error_during(stop, AssertionError())) is stop
    assert find_interrupt(AssertionError()) is None


def test_interrupt_message_is_the_first_said() -> None:
    assert interrupt_message(error_during(KeyboardInterrupt("kept"), ValueError("x"), KeyboardInterrupt())) == "kept"
    assert interrupt_message(error_during(ValueError("x"), KeyboardInterrupt())) == ""
