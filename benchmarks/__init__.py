"""Timed comparisons: `python -m benchmarks.NAME` from the repository's root. The tests never run them."""
