"""The progress of a long run, as one line of a terminal."""

COLUMNS = 30


def bar(done: int, total: int) -> str:
    """Return a bar and a percentage; work beyond the total is not shown."""
    done = min(done, total)
    filled = COLUMNS * done // max(1, total)
    return f"[{'#' * filled}{'.' * (COLUMNS - filled)}] {100 * done // max(1, total):3}%"
