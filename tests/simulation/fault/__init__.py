"""Disk errors: one error, no space permanently, a write that stops half way."""
