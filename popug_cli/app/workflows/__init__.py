"""Commands that several modules carry out together."""
