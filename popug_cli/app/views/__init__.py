"""Queries that combine answers of several modules: one function per message, named in ``app/handlers.py``.

``shell_completion.py`` answers no message; the completion of the command line calls it.
"""
