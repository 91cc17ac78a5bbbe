"""The module analytics."""
