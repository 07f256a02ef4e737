"""What the tasks of the peers do; each product wraps these functions in its own way."""

import os
import time
from functools import cache


def mark(number: int) -> None:
    """Append a line of 16 bytes to the file of marks, by one system call: executions are counted there."""
    os.write(_descriptor(), f"{number:015d}\n".encode())


def pause(milliseconds: float) -> None:
    """Hold a child for so long."""
    time.sleep(milliseconds / 1000)


@cache
def _descriptor() -> int:
    """Open the file once a process."""
    return os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
