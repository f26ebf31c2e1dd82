"""Fixtures of the sorted stores."""

from tests.sorted.postgres import postgres, postgres_server

__all__ = ["postgres", "postgres_server"]
