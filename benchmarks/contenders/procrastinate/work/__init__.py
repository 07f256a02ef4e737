"""The application with the benchmarks' tasks."""
