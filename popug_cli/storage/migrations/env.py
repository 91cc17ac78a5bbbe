"""Run alembic's migrations on the given file, each in one write transaction."""

from alembic import context

from popug_cli.storage.engine import open_engine

engine = open_engine(context.config.attributes["database"])
with engine.connect().execution_options(popug_writes=True) as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
