"""popug: the task exchange of UberPopug Inc."""
