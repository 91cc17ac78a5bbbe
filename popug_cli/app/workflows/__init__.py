"""Commands that involve several modules, several transactions or the home's files, and queries that belong to them.

``app/handlers.py`` names the function of each message.
"""
