"""The driver for PostgreSQL 15 and later, by psycopg 3; imported only where a database URL is configured.

``driver.py`` opens the database and runs its transactions; ``commit.py`` decides whether a commit whose answer was lost
took effect. ``dialect.py`` translates the placeholders of statements, ``errors.py`` the errors of the server.
``schema.py`` applies the migrations, which are the ``*.sql`` files.
"""

from popug_cli.kernel.errors import Unavailable


def require_driver() -> None:
    """Raise ``database_unavailable`` if psycopg, or the library of PostgreSQL that it needs, is not installed."""
    try:
        import psycopg  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise Unavailable(
            "database_unavailable",
            f"A company on PostgreSQL needs a package that is not installed ({error.name or 'libpq'}).",
            hint="Install popug with its extra: pip install 'popug[postgres]'.",
        ) from error
