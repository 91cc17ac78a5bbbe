"""Commands that involve several modules or several transactions."""
