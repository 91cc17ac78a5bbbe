"""Tasks: creating, drawing assignees, shuffling, completing.

Consumes ``user_registered``, ``user_role_changed``, ``user_deactivated`` and ``user_reactivated`` (which users are
assignable), ``task_priced`` (the price to show) and its own ``shuffle_requested``. Publishes ``task_created``,
``task_assigned``, ``task_completed``, ``shuffle_requested``, ``tasks_shuffled`` and ``shuffle_failed``.

Invariants: Numbers are 1, 2, 3 … without gaps. A task has exactly one assignee from the moment it exists. Each
assignment is one ``task_assigned``, whose draw can be reproduced. A completed task never changes. A shuffle is one
transaction, which runs once or never.
"""
