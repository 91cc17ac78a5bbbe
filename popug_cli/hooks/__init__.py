"""Run hooks: the operator's own programs in the home, which receive events.

``files`` finds the programs and checks that they may run. ``runner`` runs the due hooks in parallel: it leases an
event, runs ``process`` with ``environment``, and settles the event. ``sample_event`` makes events for a trial run.
``app/workflows/hooks.py`` handles the messages about hooks and calls these files. ``daemon/hook_loop.py`` sends
``RunHooks`` every second. The cursors, leases, retries and dead letters of hooks are in ``bus/hook_cursors.py``.
"""
