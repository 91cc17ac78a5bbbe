"""The commands of ``popug``, by subject.

Each file has a function ``register``, which adds its commands to the program; ``COMMANDS`` in ``cli/program.py`` says
which file to import for a command's first word. A command builds a message of ``popug_cli/messages``, performs it with
``context.backends`` and shows the answer with ``context.screen``. The rules themselves are in the modules that handle
the messages.
"""
