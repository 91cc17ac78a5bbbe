"""The disk refuses: an error once, no space for good, a write that stops half way."""
