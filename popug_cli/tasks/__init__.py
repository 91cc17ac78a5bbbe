"""Tasks: creating, drawing assignees, shuffling, completing.

``commands.py`` and ``queries.py`` handle the messages in ``messages/tasks.py``; ``consumers.py`` handles events.
``rules.py`` holds the pure rules, ``fairness.py`` the statistics behind ``popug tasks fairness``.

A draw begins in ``creation.py`` (new tasks), ``shuffles.run_shuffle`` (all open tasks) or
``assignments.reassign_unassignable`` (tasks of users who may not hold them any more). Each calls
``assignments.new_draw``, which takes a seed from ``kernel.randomness.Draws`` and records who the candidates are. Then
``rules.draw_assignee`` chooses each assignee with the published function in ``kernel/draws.py``.

Any logged-in user can repeat the draws of a shuffle: ``popug tasks verify``, see ``queries.verify_shuffle``. The
operator can repeat all draws: ``popug ledger verify``, see ``audit/draw_checks.py``.

Consumes ``user_registered``, ``user_role_changed``, ``user_deactivated`` and ``user_reactivated`` (which users are
assignable), ``task_priced`` (the price to show) and its own ``shuffle_requested``. Publishes ``task_created``,
``task_assigned``, ``task_completed``, ``shuffle_requested``, ``tasks_shuffled``, ``shuffle_failed`` and ``day_ended``.
Each of them carries the date that it counts for (``days.py``); ``end_day.py`` ends a day as the first part of a close.

Invariants: Numbers are 1, 2, 3 … without gaps. A task has exactly one assignee from the moment it exists. Each
assignment is one ``task_assigned``, whose draw can be reproduced. A completed task never changes. A shuffle is one
transaction, which runs once or never. No event after a ``day_ended`` counts for that day or an earlier one.
"""
