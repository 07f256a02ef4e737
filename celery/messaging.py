"""The classic face of the broker: `TaskPublisher` and `TaskConsumer`."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import broker, conf
from celery.calling import message_of
from celery.registry import tasks


class TaskPublisher:
    """Publishes messages of tasks, each durable when its method returns."""

    def __init__(self, connection: Any = None) -> None:
        self.connection = connection

    def delay_task(
        self,
        task_name: str,
        task_args: Sequence[Any] = (),
        task_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Send the task registered as `task_name` and return its id."""
        message = message_of(tasks[task_name], task_args, task_kwargs, **options)
        broker.current().send([message])
        return message.task_id


class TaskConsumer:
    """Reads messages of one queue."""

    def __init__(self, connection: Any = None, queue: str | None = None) -> None:
        self.connection = connection
        self.queue = queue or conf.AMQP_CONSUMER_QUEUE


def discard_all() -> int:
    """Delete every message that waits in the default queue, for good, and return their number."""
    return broker.current().discard_all(conf.AMQP_CONSUMER_QUEUE)
