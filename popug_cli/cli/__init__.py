"""The command line: turn arguments into a message, perform it, and print the answer.

``popug_cli/__main__.py`` calls ``main.run``. It answers help, completion and the version without loading a command
(``help/fast_path.py``); otherwise ``program.py`` builds the Typer program, which imports a command's file in
``commands/`` when it looks the command up. A command receives a ``CommandContext`` (``context.py``): ``backends.py``
performs its messages in this process or on a server, and ``output/screen.py`` shows the answer. ``main.py`` turns every
error into a sentence and an exit status.

``input/`` parses what users type, ``state/`` stores what lasts between commands, ``install/`` writes units for cron
and systemd.
"""
