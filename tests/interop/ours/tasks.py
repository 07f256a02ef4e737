"""The task."""

from typing import Any

from celery.task import task
from tests.interop.theirs.calls import record


@task(name="interop.echo")
def echo(token: str, *args: Any, **kwargs: Any) -> list[Any]:
    record(token, args, kwargs)
    return [*args, kwargs]
