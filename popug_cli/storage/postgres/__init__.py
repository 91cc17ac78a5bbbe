"""The driver for PostgreSQL 15 and later, by psycopg 3; imported only where a database URL is configured.

``driver.py`` opens the database and runs its transactions; ``commit.py`` decides whether a commit whose answer was lost
took effect. ``dialect.py`` translates the placeholders of statements, ``errors.py`` the errors of the server.
``migrate.py`` applies the migrations, which are the ``*.sql`` files.
"""
