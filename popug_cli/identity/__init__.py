"""The module identity."""
