"""The terminal: arguments become a message, the message is performed, the answer is rendered."""
