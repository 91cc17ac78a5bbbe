"""A live terminal application over ``perform``: tasks, money and analytics, as far as the user may see them.

It performs messages as one user, in a thread apart from the screen, and checks for news every second. Text that users
wrote is never interpreted as markup.
"""
