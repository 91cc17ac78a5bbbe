"""A live terminal application over ``perform``: tasks, money and analytics, as far as the user may see them.

`popug dashboard` runs ``app``, which shows the views: ``tasks_view``, ``money_view`` and ``analytics_view``. ``worker``
performs their messages as one user, in a thread, so that the screen stays responsive; ``app`` checks for changes every
second. ``text`` escapes all text that users wrote, so that none of it is interpreted as markup.
"""
