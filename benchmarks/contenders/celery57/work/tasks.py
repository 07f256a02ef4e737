# mypy: ignore-errors
"""The task that costs nothing, so that what is measured is the queue."""

from application import app


@app.task(name="bench.noop")
def noop(number: int) -> int:
    return number
