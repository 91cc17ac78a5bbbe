"""The bar: not before a second, never left on the screen, and the cursor is shown again."""

from io import StringIO

import pytest

from popug_cli.cli.output import progress
from popug_cli.cli.output.progress import IDLE_SECONDS, Bar

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


class Watch:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_nothing_is_drawn_within_a_second(watch: Watch) -> None:
    bar = Bar(screen := Screen())
    watch.now += 0.9
    bar("Sweeping", 1, 4)
    bar.end()
    assert screen.getvalue() == ""


def test_bar_is_drawn_after_a_second_with_current_label(watch: Watch) -> None:
    bar = Bar(screen := Screen())
    bar("Sweeping", 1, 4)
    watch.now += 1
    bar("Polishing", 1, 4)
    assert "Polishing" in screen.getvalue()
    assert "Sweeping" not in screen.getvalue()
    bar("Polishing", 4, 4)
    assert screen.getvalue().rfind(SHOW) > screen.getvalue().rfind(HIDE) >= 0


def test_bar_ended_early_shows_the_cursor_again(watch: Watch) -> None:
    bar = Bar(screen := Screen())
    watch.now += 2
    bar("Sweeping", 1, 4)
    assert screen.getvalue().rfind(HIDE) > screen.getvalue().rfind(SHOW)
    bar.end()
    assert screen.getvalue().rfind(SHOW) > screen.getvalue().rfind(HIDE)


def test_bar_idle_for_long_waits_another_second(watch: Watch) -> None:
    bar = Bar(screen := Screen())
    watch.now += IDLE_SECONDS + 1
    bar("Sweeping", 1, 4)
    assert screen.getvalue() == ""
    watch.now += 1
    bar("Sweeping", 2, 4)
    assert "Sweeping" in screen.getvalue()
    bar.end()
