"""Help, shell completion and suggestions, from ``surface.json``, without loading Typer.

``python -m tests.generate`` makes ``surface.json`` from the commands and from ``guide.toml`` (examples and next
steps), and the manual page ``popug.1``. ``surface.py`` reads it; ``fast_path.py`` answers help, completion and the
version. ``help.py`` has the text of help, ``shell_completion.py`` the completions, ``shell_scripts.py`` the scripts
that ask for them, ``suggestions.py`` the hints for mistyped words.
"""
