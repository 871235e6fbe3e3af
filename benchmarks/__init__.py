"""Measurements that the docs quote: `python -m benchmarks.NAME --help`, from a checkout of the source."""
