"""Commands for users, sessions and tokens."""
