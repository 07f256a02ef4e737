# mypy: ignore-errors
"""A project of PyPI's Celery: this folder is its whole world, and what it imports as `celery` is not ours."""

import os

from calls import record

from celery import Celery

app = Celery("interop", broker=os.environ["INTEROP_BROKER"])
app.conf.task_protocol = int(os.environ.get("INTEROP_PROTOCOL", "2"))
app.conf.broker_connection_retry_on_startup = True
app.conf.task_acks_late = True


@app.task(name="interop.echo", ignore_result=True)
def echo(token: str, *args: object, **kwargs: object) -> None:
    record(token, args, kwargs)
