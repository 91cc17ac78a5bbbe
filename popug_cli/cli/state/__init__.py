"""The state that the command line keeps between commands."""
