"""Steps from one schema of the SQL stores to the next, run by alembic when one is opened."""

from pathlib import Path
from typing import Final

NEWEST: Final = "1"
"""The last step in `versions`, so that alembic is imported only where there is a step to make."""

FOLDER: Final = Path(__file__).parent


def upgrade(connection: object) -> None:
    """Bring the tables to the newest step, in the transaction of an SQLAlchemy connection."""
    from alembic import command  # costs 0.3 s
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
