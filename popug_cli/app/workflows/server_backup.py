"""Backups of a company on PostgreSQL, which PostgreSQL's own programs make."""

from popug_cli.kernel.errors import InvalidInput


def refused(what: str) -> InvalidInput:
    """Return the error for a command or a setting that backs up or restores the file in the home."""
    return InvalidInput(
        "usage",
        f"{what} works on the database file in a home, and this company is on PostgreSQL.",
        hint="Use `pg_dump` and `pg_restore`, or point-in-time recovery (PITR), as the chapter PostgreSQL of"
        " OPERATING.md says. `popug database copy --from URL` makes a home of it.",
    )
