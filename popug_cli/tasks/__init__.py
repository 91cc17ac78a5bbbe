"""Tasks: creating, drawing assignees, shuffling, completing.

``commands.py`` and ``queries.py`` hold the handlers of the messages in ``messages/tasks.py``, ``consumers.py`` the
reactions to events, ``rules.py`` the pure rules, ``fairness.py`` the statistics behind ``popug tasks fairness``.

A draw: ``creation.py`` (new tasks), ``shuffles.run_shuffle`` (all open tasks) and ``assignments.reassign_unassignable``
(the tasks of a user who may not hold them any more) each call ``assignments.new_draw``. It chooses the seed and records
which users are the candidates. Then ``rules.draw_assignee`` chooses the assignee with the published function in
``kernel/draws.py``. Any logged-in user can repeat the draws of a shuffle (``popug tasks verify``, see
``queries.verify_shuffle``); the operator can repeat all draws (``popug ledger verify``, ``audit/draw_checks.py``).

Consumes ``user_registered``, ``user_role_changed``, ``user_deactivated`` and ``user_reactivated`` (which users are
assignable), ``task_priced`` (the price to show) and its own ``shuffle_requested``. Publishes ``task_created``,
``task_assigned``, ``task_completed``, ``shuffle_requested``, ``tasks_shuffled`` and ``shuffle_failed``.

Invariants: Numbers are 1, 2, 3 … without gaps. A task has exactly one assignee from the moment it exists. Each
assignment is one ``task_assigned``, whose draw can be reproduced. A completed task never changes. A shuffle is one
transaction, which runs once or never.
"""
