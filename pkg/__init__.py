"""peatkeep: a content-addressed store for a person's files, photos and data."""

__version__ = "0.1.0"
