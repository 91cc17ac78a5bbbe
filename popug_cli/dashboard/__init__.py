"""A live terminal application over ``perform``: tasks, money and analytics, for those who may see them.

It performs messages as one person, in a thread beside the screen, and looks every second what is new. Nothing that
people wrote is ever read as markup.
"""
