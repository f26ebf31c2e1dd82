"""Run by alembic: bring the connection that `sorted/sql.py` hands over to the newest schema.

The connection is in a transaction that its owner commits, so a step that fails leaves nothing.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
