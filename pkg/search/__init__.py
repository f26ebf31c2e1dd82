"""Search: query language, constraints, planner (pkg/search/README.md)."""
