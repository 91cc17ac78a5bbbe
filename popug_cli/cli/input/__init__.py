"""Parse and read what users give to commands.

``dates.py`` parses dates and instants, ``import_lines.py`` reads files for imports, ``passwords.py`` reads passwords
and other answers at a terminal.
"""
