"""The command line: turn arguments into a message, perform it, and print the answer."""
