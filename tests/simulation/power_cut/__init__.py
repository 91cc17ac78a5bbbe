"""The power fails: what was not synced is dropped, torn or reordered."""
