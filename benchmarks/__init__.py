"""Benchmarks: one question per file, each runnable alone; the load is drawn in README.md."""
