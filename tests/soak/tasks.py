"""What is soaked: mostly tasks that do nothing, so that a million of them is a matter of minutes."""

from celery.current import running
from celery.task import task


@task(name="soak.ignored", ignore_result=True)
def ignored(_number: int) -> None:
    """Nobody wants the result."""


@task(name="soak.stored")
def stored(number: int) -> int:
    return number


@task(name="soak.unicode")
def unicode(text: str) -> str:
    return text


@task(name="soak.measured")
def measured(text: str) -> int:
    """Carry much, return little."""
    return len(text)


@task(name="soak.failing")
def failing(number: int) -> None:
    _fail(number, depth=5)


def _fail(number: int, *, depth: int) -> None:
    """Fail below some frames of its own, for a traceback of the usual length."""
    if depth:
        _fail(number, depth=depth - 1)
    raise ValueError(f"number {number} is refused")


@task(name="soak.retried", retry_interval=0.01, max_retries=1)
def retried(number: int) -> int:
    """Succeed the second time."""
    now = running.get()
    assert now is not None
    if not now.retries:
        retried.retry(exc=ConnectionError("the bank is away"))
    return number
