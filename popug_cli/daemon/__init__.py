"""Work in the background of a process: the scheduler and the hook loop.

``scheduler`` triggers the runs that ``app/workflows/scheduled_run.py`` performs; ``hook_loop`` triggers the rounds of
hooks that ``app/workflows/hooks.py`` performs. `popug scheduler` and `popug hooks`
(``cli/commands/operations``) run them in the foreground, and `popug serve` in the background of a server.
"""
