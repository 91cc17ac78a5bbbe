"""What the command line remembers between two commands."""
