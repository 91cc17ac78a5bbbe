"""Commands for tasks: ``task.py`` for one task, ``tasks.py`` for many, ``task_list.py`` for the list and its table."""
