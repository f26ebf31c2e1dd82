"""Perkeep's tables, made where they are missing, and keys in byte order.

A database that Perkeep made has them already; only the order of its keys may be that of a locale.
"""

from typing import Final

from alembic import op

revision = "1"
down_revision = None

_META: Final = """
    CREATE TABLE IF NOT EXISTS meta
        (metakey VARCHAR(255) NOT NULL PRIMARY KEY, value VARCHAR(255) NOT NULL)
"""

_SQLITE: Final = (
    "CREATE TABLE IF NOT EXISTS rows (k VARCHAR(767) NOT NULL PRIMARY KEY, v VARCHAR(63000))",
    _META,
    "INSERT OR IGNORE INTO meta VALUES ('version', '1')",
)

_POSTGRESQL: Final = (
    """
    CREATE TABLE IF NOT EXISTS rows
        (k VARCHAR(767) COLLATE "C" NOT NULL PRIMARY KEY, v VARCHAR(63000))
    """,
    _META,
    "INSERT INTO meta VALUES ('version', '2') ON CONFLICT DO NOTHING",
    # Rebuilds the index of the keys: in the order of a locale it can't serve ranges of bytes.
    """
    DO $$ BEGIN
        IF NOT EXISTS (
            SELECT FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
            WHERE attrelid = 'rows'::regclass AND attname = 'k' AND collname = 'C'
        ) THEN
            ALTER TABLE rows ALTER COLUMN k TYPE VARCHAR(767) COLLATE "C";
        END IF;
    END $$
    """,
)

_FUNCTION: Final = """
    DO $$ BEGIN
        IF NOT EXISTS (
            SELECT FROM pg_proc WHERE proname = '{name}' AND pg_function_is_visible(oid)
        ) THEN
            CREATE FUNCTION {name}(TEXT, TEXT) RETURNS VOID LANGUAGE sql AS
                'INSERT INTO {table} VALUES ($1, $2)
                 ON CONFLICT ({key}) DO UPDATE SET {value} = EXCLUDED.{value}';
        END IF;
    END $$
"""
"""Perkeep writes by functions that it expects in the database."""


def upgrade() -> None:
    """Make what is missing."""
    if op.get_context().dialect.name == "sqlite":
        for statement in _SQLITE:
            op.execute(statement)
        return
    for statement in _POSTGRESQL:
        op.execute(statement)
    op.execute(_FUNCTION.format(name="replaceinto", table="rows", key="k", value="v"))
    op.execute(_FUNCTION.format(name="replaceintometa", table="meta", key="metakey", value="value"))
