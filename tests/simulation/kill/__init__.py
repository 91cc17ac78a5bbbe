"""Kills of the program at every point at which it touches the disk."""
