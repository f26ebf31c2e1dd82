"""Steps from one schema of the SQL stores to the next, run by alembic when one is opened."""
