"""The application with the benchmarks' task."""
