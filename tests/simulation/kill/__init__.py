"""The program is killed at every point at which it touches the disk."""
