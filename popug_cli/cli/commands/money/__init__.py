"""Commands for accounts, the ledger, analytics and mail."""
