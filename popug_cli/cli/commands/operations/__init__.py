"""Commands for the operator: the company, backups, hooks, the scheduler, the server and events."""
