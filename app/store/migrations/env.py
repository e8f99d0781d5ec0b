"""Alembic's entry: it runs on the connection that app/store/migrate.py hands over."""

from alembic import context

from app.store.tables import metadata

# Inside the caller's transaction: no begin_transaction() here, that one would commit half way.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
