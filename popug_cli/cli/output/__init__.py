"""Output on the terminal: the printer, and what it prints."""
