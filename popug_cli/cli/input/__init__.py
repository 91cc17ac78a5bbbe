"""Input from the terminal: dates, JSON lines and passwords."""
