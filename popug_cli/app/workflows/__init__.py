"""Commands that involve several modules or the home's files, and queries that belong to them.

``app/handlers.py`` names the function of each message.
"""
