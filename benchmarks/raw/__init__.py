"""Raw limits: what RabbitMQ, PostgreSQL and SQLite take from a plain program, with nothing of ours in between.

Each module does what its order says and prints one JSON object: ``python -m benchmarks.raw.rabbitmq JSON``. They import
no module of ours, but for `benchmarks.raw.sqlite`, which takes the very statements of the worker.
"""
