"""Throughput, latency and memory, side by side with PyPI's Celery: ``python -m benchmarks --help``.

Nothing here asserts a time: figures are printed and written to ``benchmarks/results``, and only what broke is an error.
"""
