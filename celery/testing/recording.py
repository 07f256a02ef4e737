"""What is sent, as calls: `sent_tasks` records it, `assert_sent` and `assert_nothing_sent` say what it should be."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import broker
from celery import message as wire
from celery.broker.base import Broker, Consumer
from celery.calling import message_of, moment
from celery.message import Message

#: Brokers inside the test's reach. A message for any other one is recorded, and goes no further.
WITHIN_REACH: Final = ("django://", "memory://", broker.EAGER)
#: Seconds by which a countdown may differ: some pass between its computation and its record.
TOLERANCE: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTask:
    """A call as a worker would decode it: tuples are lists. Moments are aware, in UTC."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    task_id: str
    queue: str
    priority: int | None
    eta: datetime | None
    expires: datetime | None
    sent_at: datetime

    @property
    def countdown(self) -> float | None:
        """The seconds from its sending to its `eta`."""
        return None if self.eta is None else (self.eta - self.sent_at).total_seconds()

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        options = [f"queue={self.queue!r}"]
        if self.priority is not None:
            options.append(f"priority={self.priority}")
        if self.eta:
            options.append(f"eta={self.eta.isoformat()} (countdown={self.countdown:.1f})")
        if self.expires:
            options.append(f"expires={self.expires.isoformat()}")
        return f"{self.task}({', '.join(arguments)}) with {', '.join(options)}"


class SentTasks(Sequence[SentTask]):
    """The calls that were sent, in their order."""

    def __init__(self) -> None:
        self._calls: list[SentTask] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: Any) -> Any:
        return self._calls[index]

    def __str__(self) -> str:
        return "\n".join(f"  {call}" for call in self._calls) or "  nothing"

    def of(self, task: Any) -> list[SentTask]:
        """Return the calls of one task, given by itself or by name."""
        name = _name_of(task)
        return [call for call in self._calls if call.task == name]

    def add(self, messages: Sequence[Message]) -> list[SentTask]:
        """Note messages, decoded."""
        added = [_sent_task(message) for message in messages]
        self._calls += added
        return added

    def forget(self, calls: Sequence[SentTask]) -> None:
        """Take back what could not be sent."""
        gone = set(map(id, calls))
        self._calls = [call for call in self._calls if id(call) not in gone]

    def assert_sent(  # noqa: PLR0913 - what a call can say
        self,
        task: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        times: int | None = 1,
        queue: str | None = None,
        priority: int | None = None,
        eta: datetime | None = None,
        countdown: float | None = None,
    ) -> list[SentTask]:
        """Assert that `task` was sent `times` (None: at least once) in this way; return these calls.

        What is left out may be anything. `args` and `kwargs` are compared as they arrive: a tuple is a list.
        `countdown` may differ by two seconds. Raises AssertionError, with a list of what was sent instead.
        """
        wanted = _wanted(task, args, kwargs, queue=queue, priority=priority, eta=moment("eta", eta))
        found = [call for call in self.of(task) if _fits(call, wanted, countdown)]
        if len(found) == times or (times is None and found):
            return found
        options = {**wanted, "countdown": countdown}
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
        much = "at least once" if times is None else f"{times} times" if times != 1 else "once"
        text = f"{_name_of(task)} should be sent {much}{f' with {shown}' if shown else ''}, and was {len(found)} times."
        raise AssertionError(f"{text} Sent were:\n{self}")

    def assert_nothing_sent(self) -> None:
        """Assert that there is no call. Raises AssertionError, with a list of what was sent."""
        if self._calls:
            raise AssertionError(f"no task should be sent. Sent were:\n{self}")


@contextmanager
def sent_tasks() -> Iterator[SentTasks]:
    """Record what is sent inside the block, by any thread, at the moment of its sending.

    A call counts even if the transaction in which it was sent is rolled back; not if sending it failed. What is sent
    also goes to the broker, if that is inside the test: inline, the worker of `worker()`, the database, or memory. For
    a server, RabbitMQ or Redis, it ends here.

    >>> from celery.testing import sent_tasks
    >>> with sent_tasks() as sent:
    ...     pass
    >>> sent.assert_nothing_sent()
    """
    sent = SentTasks()
    recorder = Recorder(sent)
    broker.interposed.append(recorder)
    try:
        yield sent
    finally:
        broker.interposed.remove(recorder)


@contextmanager
def assert_sent(  # noqa: PLR0913 - what a call can say
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    times: int | None = 1,
    queue: str | None = None,
    priority: int | None = None,
    eta: datetime | None = None,
    countdown: float | None = None,
) -> Iterator[SentTasks]:
    """Assert that the block sends `task`; see `SentTasks.assert_sent` and `sent_tasks`."""
    with sent_tasks() as sent:
        yield sent
    sent.assert_sent(task, args, kwargs, times=times, queue=queue, priority=priority, eta=eta, countdown=countdown)


@contextmanager
def assert_nothing_sent() -> Iterator[None]:
    """Assert that the block sends no task; see `sent_tasks`."""
    with sent_tasks() as sent:
        yield
    sent.assert_nothing_sent()


class Recorder(Broker):
    """Stands before the broker, notes what is sent, and hands it on."""

    def __init__(self, sent: SentTasks) -> None:
        super().__init__("recorder://")
        self._sent = sent

    def _next(self) -> Broker:
        """Return the recorder around this one, or the broker of the settings."""
        outer = broker.interposed.index(self) - 1
        return broker.interposed[outer] if outer >= 0 else broker.configured()

    @property
    def alias(self) -> str:
        """Return that of the broker of the settings."""
        return broker.configured().alias

    def send(self, messages: Sequence[Message]) -> str | None:
        """Note the messages; forget them if they cannot be sent."""
        noted = self._sent.add(messages)
        target = self._next()
        if not target.url.startswith((*WITHIN_REACH, self.url)):
            return None
        try:
            return target.send(messages)
        except BaseException:
            self._sent.forget(noted)
            raise

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish: what is published here was sent elsewhere."""
        self._next().publish(messages)

    def consumer(self, owner: str, queues: Sequence[str]) -> Consumer:
        """Return a consumer of the broker of the settings."""
        return self._next().consumer(owner, queues)

    def depth(self, queue: str) -> int:
        """Ask the broker of the settings."""
        return self._next().depth(queue)

    def discard_all(self, queue: str) -> int:
        """Ask the broker of the settings."""
        return self._next().discard_all(queue)


def _sent_task(message: Message) -> SentTask:
    call = wire.decode(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=message.headers,
    )
    return SentTask(
        task=call.task,
        args=list(call.args),
        kwargs=dict(call.kwargs),
        task_id=call.task_id,
        queue=message.queue,
        priority=message.priority,
        eta=call.eta,
        expires=call.expires,
        sent_at=datetime.now(UTC),
    )


def _wanted(task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
    """Return what a call must have, the arguments as they arrive. Raises UnsendableArgument."""
    name = _name_of(task)
    as_sent = _sent_task(message_of(_Named(name) if task == name else task, args or (), kwargs))
    arrived = {"args": args if args is None else as_sent.args, "kwargs": kwargs if kwargs is None else as_sent.kwargs}
    return {**arrived, **options}


def _fits(call: SentTask, wanted: Mapping[str, Any], countdown: float | None) -> bool:
    if any(value is not None and getattr(call, name) != value for name, value in wanted.items()):
        return False
    if countdown is None:
        return True
    return call.eta is not None and abs(call.eta - call.sent_at - timedelta(seconds=countdown)) <= timedelta(
        seconds=TOLERANCE
    )


class _Named:
    """A task of which only the name is known."""

    def __init__(self, name: str) -> None:
        self.name = name


def _name_of(task: Any) -> str:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not name:
        raise TypeError(f"{task!r} is no task and no name of one")
    return str(name)
