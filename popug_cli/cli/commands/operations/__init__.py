"""Commands for the operator: the company, backups, hooks, the scheduler, the server and events.

``company.py`` has config, doctor and permissions. ``serve.py`` starts ``server/run.py``; ``scheduler.py`` starts
``daemon/scheduler.py``; both also start ``daemon/hook_loop.py``. Their units for cron and systemd come from
``cli/install``.
"""
