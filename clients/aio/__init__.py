"""The client library for programs with an event loop."""

from .client import AsyncClient as AsyncClient
