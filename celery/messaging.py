"""The classic face of the broker: `TaskPublisher` and `TaskConsumer`. All they do the broker of the settings does."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self

from django.utils.asyncio import async_unsafe

from celery import backends, broker, conf
from celery import message as wire
from celery.broker.taking import Source, source_of
from celery.calling import message_of, moment
from celery.exceptions import MeaninglessOption
from celery.message import LONGEST_NAME, Delivery, is_name
from celery.registry import tasks

#: Options of 0.2 that change nothing: every message is published as mandatory.
_NEEDLESS: Final = frozenset({"immediate", "mandatory"})
_OPTIONS: Final = ("queue", "routing_key", "priority", "serializer", "countdown", "eta", "expires", "task_id")


def _warn_of(connection: Any) -> None:
    if connection is not None:
        text = "`connection` means nothing any more: CELERY_BROKER_URL says where the broker is"
        warnings.warn(text, MeaninglessOption, stacklevel=3)


# -- publishing


class TaskPublisher:
    """Publishes messages of tasks, each durable when its method returns.

    Tasks are given by name, and need not be registered here. Options are those of `celery.task.apply_async`, and so is
    what is raised; TypeError for an option that there is not. `connection` is accepted with the warning
    MeaninglessOption: CELERY_BROKER_URL says where the broker is.
    """

    def __init__(self, connection: Any = None) -> None:
        _warn_of(connection)

    def delay_task(
        self,
        task_name: str,
        task_args: Sequence[Any] | None = None,
        task_kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> str:
        """Send a task and return its id."""
        return _publish(task_name, task_args, task_kwargs, opts)

    def delay_task_in_set(
        self,
        task_name: str,
        taskset_id: str,
        task_args: Sequence[Any] | None = None,
        task_kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> str:
        """Send a task as a part of a set and return its id."""
        return _publish(task_name, task_args, task_kwargs, opts, taskset=taskset_id)

    def requeue_task(
        self,
        task_name: str,
        task_id: str,
        task_args: Sequence[Any] | None = None,
        task_kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> str:
        """Send a task again under the id that it had, and return that: a new attempt if the last one is over."""
        return _publish(
            task_name,
            task_args,
            task_kwargs,
            {**opts, "task_id": task_id},
            attempt=backends.default().next_attempt(task_id),
        )

    def close(self) -> None:
        """Do nothing: connections belong to the broker, one a thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@async_unsafe("Sending a task blocks, and this thread runs an event loop: use asgiref.sync.sync_to_async.")
def _publish(  # noqa: PLR0913 - the classic signatures
    task_name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    *,
    taskset: str | None = None,
    attempt: int = 1,
) -> str:
    if unknown := sorted(set(options) - _NEEDLESS - set(_OPTIONS)):
        raise TypeError(f"there is no option {unknown[0]!r}; there are: {', '.join(sorted(_OPTIONS))}")
    known = {name: options.get(name) for name in _OPTIONS}
    message = message_of(
        tasks.get(task_name) or SimpleNamespace(name=task_name),
        args or (),
        kwargs or {},
        task_id=known["task_id"],
        queue=known["queue"] or known["routing_key"],
        priority=known["priority"],
        serializer=known["serializer"],
        eta=moment("countdown", known["countdown"]) or moment("eta", known["eta"]),
        expires=moment("expires", known["expires"]),
        taskset=taskset,
        attempt=attempt,
    )
    broker.current().send([message])
    return message.task_id


# -- consuming


class TaskMessage:
    """A message that a `TaskConsumer` has taken: say `ack`, `reject` or `requeue` when you are done with it."""

    def __init__(self, source: Source, delivery: Delivery) -> None:
        self._source: Source | None = source
        self._delivery = delivery
        #: The call, encoded.
        self.body = delivery.body
        self.content_type, self.content_encoding, self.headers = wire.unpack_headers(delivery.headers)

    @property
    def payload(self) -> dict[str, Any]:
        """The classic body: `task`, `id`, `args`, `kwargs`, `taskset`, and what came later."""
        return self.decode()

    def decode(self) -> dict[str, Any]:
        """Return the classic body. Raises UndecodableMessage."""
        call = wire.decode(
            self.body,
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            headers=self.headers,
        )
        return {
            "task": call.task,
            "id": call.task_id,
            "args": list(call.args),
            "kwargs": dict(call.kwargs),
            "taskset": call.taskset,
            "retries": call.retries,
            "eta": call.eta,
            "expires": call.expires,
        }

    @property
    def is_settled(self) -> bool:
        """Whether this was acknowledged, rejected or requeued."""
        return self._source is None

    def ack(self) -> None:
        """Have the broker forget the message: it was worked. Raises LeaseLost if others have taken it over."""
        self._settled().settle(self._delivery)

    def reject(self) -> None:
        """Have the broker forget the message: nobody should work it. Raises LeaseLost."""
        self._settled().settle(self._delivery)

    def requeue(self) -> None:
        """Return the message to its queue. Raises LeaseLost."""
        self._settled().give_back(self._delivery)

    def _settled(self) -> Source:
        source, self._source = self._source, None
        if source is None:
            raise RuntimeError(f"the message {self._delivery.task_id} was acknowledged, rejected or requeued before")
        return source

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._delivery.task_id}>"


class TaskConsumer:
    """Takes messages of one queue by hand; workers do not need it.

    What was fetched and not settled returns to the queue on `close`. So it does when the consumer counts as dead: on
    the database queue if it fetches nothing for ten minutes, elsewhere much sooner, after missed heartbeats. `queue`:
    by default the default one; ValueError for what cannot be the name of one. `connection` as in `TaskPublisher`.
    """

    def __init__(self, connection: Any = None, queue: str | None = None) -> None:
        _warn_of(connection)
        self.queue = queue or str(conf.AMQP_CONSUMER_QUEUE)
        if not is_name(self.queue):
            raise ValueError(f"a queue is a text of at most {LONGEST_NAME} characters, without NUL, not {queue!r:.80}")
        self._source: Source | None = None

    def discard_all(self) -> int:
        """Delete every message that waits in the queue, for good, and return their number."""
        return broker.current().discard_all(self.queue)

    def fetch(self, timeout: float = 0.0) -> TaskMessage | None:
        """Return the next message, or None if there is none within `timeout` seconds. Raises BrokerUnreachable."""
        if self._source is None:
            self._source = source_of(self.queue)
        delivery = self._source.take(timeout)
        return TaskMessage(self._source, delivery) if delivery else None

    def __iter__(self) -> Iterator[TaskMessage]:
        """Yield messages until the queue is empty."""
        while message := self.fetch():
            yield message

    def close(self) -> None:
        """Give back what is not settled, and let go of the broker. Harmless when repeated."""
        source, self._source = self._source, None
        if source:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def discard_all() -> int:
    """Delete every message that waits in the default queue, for good, and return their number."""
    return broker.current().discard_all(conf.AMQP_CONSUMER_QUEUE)
