"""What PostgreSQL's codes of errors mean to us."""

from typing import Final

from ..errors import Corrupt, Forbidden, ReadOnly, StoreError

ERRORS: Final[dict[str, type[StoreError]]] = {
    "25006": ReadOnly,  # read_only_sql_transaction: a server in recovery
    "28000": Forbidden,  # invalid_authorization_specification
    "28P01": Forbidden,  # invalid_password
    "42501": Forbidden,  # insufficient_privilege
    "XX001": Corrupt,  # data_corrupted
    "XX002": Corrupt,  # index_corrupted
}
"""All others are Unavailable."""

MET_ANOTHER: Final = frozenset({"40001", "40P01"})
"""serialization_failure, deadlock_detected: the same transaction may succeed now."""

MADE_MEANWHILE: Final = frozenset({"42P04", "23505"})
"""duplicate_database, unique_violation: when a database is made by two at once."""
