"""Tasks: creating, drawing assignees, shuffling, completing.

Consumes user_registered, user_role_changed, user_deactivated, user_reactivated (who may hold tasks), task_priced (what
a task costs) and its own shuffle_requested. Publishes task_created, task_assigned, task_completed, shuffle_requested,
tasks_shuffled and shuffle_failed.

Invariants: numbers are 1, 2, 3 … without gaps; each task has exactly one assignee from the moment it exists; each
change of hands is one task_assigned whose draw can be done again; a completed task never changes; a shuffle is one
transaction, carried out once or never.
"""
