"""Output of commands.

A command passes blocks (``blocks.py``) to the screen (``screen.py``), which prints them or the JSON document through
the printer (``printer.py``). ``plain_text.py`` lays blocks out for screen readers, ``relative_time.py`` words times,
``progress.py`` draws the progress bar, ``pager.py`` runs the pager. ``file.py`` writes an export to a file;
``ledger_formats.py`` has the formats of the ledger export.
"""
