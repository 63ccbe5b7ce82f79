"""Benchmarks: timing artifacts, watching the machine, and the statistics of the samples."""
