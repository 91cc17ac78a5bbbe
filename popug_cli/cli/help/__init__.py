"""Help, shell completion and the manual page, from ``surface.json``."""
