"""The module mail."""
