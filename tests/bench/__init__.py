"""Benchmarks beside other programs; a package, so that `tests/bench.py` does not hide it."""
