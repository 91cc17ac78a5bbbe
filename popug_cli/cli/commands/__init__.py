"""The commands of ``popug``, by subject."""
