"""Charts in plain text: bars with a common zero, and sparklines; in ASCII for terminals without Unicode."""

from collections.abc import Sequence

EIGHTHS = " ▏▎▍▌▋▊▉█"
RIGHT_HALF_BLOCK = "▐"
LEVELS = "▁▂▃▄▅▆▇█"
ASCII_BLOCK = "#"
ASCII_LEVELS = "_.-=+*%#"


def bars(values: Sequence[int], width: int, *, ascii_only: bool) -> list[str]:
    """Return a bar of at most ``width`` characters for each value, on one scale.

    If a value is negative, bars start at an axis: negative ones to its left, positive ones to its right.
    """
    below, above = max(0, *(-value for value in values), 0), max(0, *values, 0)
    if not below:
        return [_bar_to_right(value, above, width, ascii_only=ascii_only) for value in values]
    left_width = min(width - 2, max(1, round((width - 1) * below / (below + above)))) if above else width - 1
    scales = (below, left_width), (above, width - 1 - left_width)
    return [_bar_across_axis(value, *scales, ascii_only=ascii_only) for value in values]


def sparkline(values: Sequence[int], *, ascii_only: bool) -> str:
    """Return one character for each value, scaled from the lowest to the highest."""
    levels = ASCII_LEVELS if ascii_only else LEVELS
    lowest, highest = min(values, default=0), max(values, default=0)
    value_range = max(1, highest - lowest)
    return "".join(levels[(value - lowest) * (len(levels) - 1) // value_range] for value in values)


def _bar_across_axis(value: int, below: tuple[int, int], above: tuple[int, int], *, ascii_only: bool) -> str:
    """Return a value's bar with the axis; each side's scale is its highest absolute value and its width."""
    left = _bar_to_left(-value, *below, ascii_only=ascii_only) if value < 0 else ""
    right = _bar_to_right(value, *above, ascii_only=ascii_only) if value > 0 else ""
    return f"{left:>{below[1]}}{'|' if ascii_only else '│'}{right}"


def _bar_to_right(value: int, highest: int, width: int, *, ascii_only: bool) -> str:
    if not highest or value <= 0:
        return ""
    if ascii_only:
        return ASCII_BLOCK * max(1, round(width * value / highest))
    eighths = max(1, round(8 * width * value / highest))
    return (EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def _bar_to_left(value: int, highest: int, width: int, *, ascii_only: bool) -> str:
    if ascii_only:
        return ASCII_BLOCK * max(1, round(width * value / highest))
    halves = max(1, round(2 * width * value / highest))
    return RIGHT_HALF_BLOCK * (halves % 2) + EIGHTHS[-1] * (halves // 2)
