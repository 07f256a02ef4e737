"""Tasks that cost next to nothing, so that what is measured is the queue; and some that cost a known time."""

import os
import time

from celery.task import task

_files: dict[int, int] = {}


@task(name="bench.noop")
def noop(number: int) -> int:
    return number


@task(name="bench.mark", ignore_result=True)
def mark(number: int) -> None:
    write(f"{number:015d}\n")


@task(name="bench.pause")
def pause(milliseconds: float) -> None:
    time.sleep(milliseconds / 1000)


@task(name="bench.size")
def size(text: str) -> int:
    return len(text)


@task(name="bench.late", ignore_result=True)
def late(at: float) -> None:
    write(f"{time.time() - at:015.6f}\n")


def write(line: str) -> None:
    """Append with one system call, on a descriptor that each process opens once."""
    process = os.getpid()
    if process not in _files:
        _files[process] = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(_files[process], line.encode())
