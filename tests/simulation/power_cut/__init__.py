"""A power cut: unsynced writes are dropped, torn or reordered."""
