"""A task is code with a name. Calling `delay` turns a call into one message and gives it to the broker."""

import inspect
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from django.utils import timezone
from django.utils.asyncio import async_unsafe

from celery import backends, broker, conf
from celery.exceptions import InvalidTask
from celery.message import LONGEST_NAME, Call, Message, encode, is_name
from celery.registry import tasks
from celery.result import AsyncResult, OpenTransaction

P = ParamSpec("P")
R = TypeVar("R")

#: Messages that `delay_many` publishes, and waits for, together.
BATCH = 1000

#: The column is a 16-bit number.
HIGHEST_PRIORITY = 32767

BLOCKING = (
    "Sending a task or a query of its result blocks, and this thread runs an event loop. "
    "Write: await sync_to_async(mytask.delay)(...), with asgiref.sync.sync_to_async."
)


class TaskOptions:
    """What can be set on a task. Options given to a call win over these.

    `queue` (`routing_key` is its name in AMQP); `priority`: larger is more urgent; `acks_late` False: at most once, the
    message is acknowledged before the task runs; `ignore_result`: DONE is not stored (failures are).
    """

    name: str = ""
    type: str = "regular"
    queue: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    serializer: str | None = None
    ignore_result: bool = False
    acks_late: bool = True


class Task(TaskOptions):
    """A task as a class. Write `run`, register the class, call `delay` on it.

    >>> from celery.task import Task, tasks
    >>> class Add(Task):
    ...     name = "docs.add"
    ...
    ...     def run(self, x, y):
    ...         return x + y
    >>> tasks.register(Add)
    >>> Add()(2, 2)
    4
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derive the name from module and class where it is not given."""
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work. Every task class defines it."""
        text = f"{type(self).__name__} defines no run()"
        raise NotImplementedError(text)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now."""
        return self.run(*args, **kwargs)

    @classmethod
    def delay(cls, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Send the task with these arguments."""
        return send(cls, args, kwargs)

    @classmethod
    def apply_async(
        cls, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send the task with options; see `celery.task.apply_async`."""
        return apply_async(cls, args, kwargs, **options)

    @classmethod
    def delay_many(cls, calls: Iterable[Sequence[Any]]) -> list[AsyncResult[Any]]:
        """Send one task for every tuple of arguments; see `send_many`."""
        return send_many(cls, calls)


class FunctionTask(TaskOptions, Generic[P, R]):
    """A function as a task, made by `@task`: calling it runs it here, `delay` sends it, both with its signature."""

    def __init__(self, function: Callable[P, R], options: Mapping[str, Any]) -> None:
        self.run = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__qualname__ = function.__qualname__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        self.name = options.get("name") or f"{function.__module__}.{function.__qualname__}"
        for option, value in options.items():
            setattr(self, option, value if option != "name" else self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return self.run(*args, **kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments."""
        return send(self, args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send the task with options; see `celery.task.apply_async`."""
        return apply_async(self, args, kwargs, **options)

    def delay_many(self, calls: Iterable[Sequence[Any]]) -> list[AsyncResult[R]]:
        """Send one task for every tuple of arguments; see `send_many`."""
        return send_many(self, calls)

    def __repr__(self) -> str:
        return f"<task {self.name}>"


@overload
def task(function: Callable[P, R]) -> FunctionTask[P, R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[P, R]], FunctionTask[P, R]]: ...


def task(function: Any = None, **options: Any) -> Any:
    """Make a module-level function a task, and register it.

    `options` are the attributes of `TaskOptions`. Raises InvalidTask for a lambda, a local function, a coroutine
    function or an unknown option; AlreadyRegistered if the name is taken.

    >>> from celery.task import task
    >>> @task(name="docs.double")
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(21)
    42
    """
    if function is None:
        return _Decorator(options)
    return _Decorator(options)(function)


class _Decorator:
    """``@task(...)`` waiting for its function."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - {name for name in vars(TaskOptions) if not name.startswith("_")})
        if unknown:
            text = f"@task has no option {unknown[0]!r}; it has: {', '.join(sorted(TaskOptions.__annotations__))}"
            raise InvalidTask(text)
        self._options = options

    def __call__(self, function: Callable[P, R]) -> FunctionTask[P, R]:
        _check_function(function)
        made = FunctionTask(function, self._options)
        tasks.register(made, made.name)
        return made


def _check_function(function: Any) -> None:
    name = getattr(function, "__qualname__", "")
    if not inspect.isfunction(function):
        _refuse(f"{function!r} is not a function. Write a class for it, with `run`.")
    if name.endswith("<lambda>"):
        _refuse("a lambda has no name that a worker could find it by. Define a function of a module.")
    if "<locals>" in name:
        _refuse(f"{name} is local to another function, so no worker can find it. Define it at the top of a module.")
    if inspect.iscoroutinefunction(function):
        _refuse(f"{name} is a coroutine function. Wrap its call: asyncio.run(...) inside a plain function.")


def _refuse(text: str) -> NoReturn:
    raise InvalidTask(text)


# -- sending


def send(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncResult[Any]:
    """Send one call with the task's own options."""
    return _send(task, [_message(task, args, kwargs)])[0]


def send_many(task: Any, calls: Iterable[Sequence[Any]]) -> list[AsyncResult[Any]]:
    """Send one call for every tuple of arguments, in batches: one wait for the broker a batch, one batch in memory.

    If a batch fails, its exception is raised and the batches before it are sent.
    """
    results: list[AsyncResult[Any]] = []
    pending = iter(calls)
    while batch := list(islice(pending, BATCH)):
        results += _send(task, [_message(task, args, {}) for args in batch])
    return results


def apply_async(  # noqa: PLR0913 - the classic signature
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    routing_key: str | None = None,
    priority: int | None = None,
    countdown: float | None = None,
    eta: datetime | None = None,
    expires: datetime | float | None = None,
    task_id: str | None = None,
    serializer: str | None = None,
    immediate: bool | None = None,  # noqa: ARG001 - accepted: RabbitMQ 3.0 removed it, and every message is mandatory
    mandatory: bool | None = None,  # noqa: ARG001
    connect_timeout: float | None = None,  # noqa: ARG001 - CELERY_PUBLISH_TIMEOUT bounds it
) -> AsyncResult[Any]:
    """Send `task`, with options that win over the task's own.

    `countdown` (seconds) or `eta` (a moment; a naive one is in the current time zone of Django) delays it through the
    durable schedule. `expires` (seconds, or a moment): not started before it, the task fails with TaskExpired. A
    `task_id` of your own must be unique; while a message with it waits, another one is not added.
    """
    message = _message(
        task,
        () if args is None else args,
        {} if kwargs is None else kwargs,
        task_id=task_id,
        queue=queue or routing_key,
        priority=priority,
        serializer=serializer,
        eta=_moment("countdown", countdown) or _moment("eta", eta),
        expires=_moment("expires", expires),
    )
    return _send(task, [message])[0]


def delay_task(task_name: str, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
    """Send the task registered as `task_name`. Raises NotRegistered."""
    return send(tasks[task_name], args, kwargs)


def is_done(task_id: str) -> bool:
    """Tell whether the task executed successfully."""
    return backends.default().is_done(task_id)


def _message(  # noqa: PLR0913 - what a call can say
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    task_id: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    serializer: str | None = None,
    eta: datetime | None = None,
    expires: datetime | None = None,
) -> Message:
    name = getattr(task, "name", None)
    if not name:
        text = f"{task!r} has no task name, so it cannot be sent. Decorate it with @task or register it."
        raise InvalidTask(text)
    queue = queue or getattr(task, "queue", None) or getattr(task, "routing_key", None) or conf.QUEUE
    priority = priority if priority is not None else getattr(task, "priority", None)
    _check_options(task_id=task_id or None, queue=queue, priority=priority)
    if isinstance(args, str | bytes):
        text = f"the arguments of a call of {name} come as a list or tuple, not as {args!r:.80}: write ({args!r:.20},)"
        raise TypeError(text)
    call = Call(task=name, task_id=task_id or str(uuid.uuid4()), args=args, kwargs=kwargs, eta=eta, expires=expires)
    content_type, encoding, body = encode(call, serializer or getattr(task, "serializer", None) or conf.TASK_SERIALIZER)
    return Message(
        task_id=call.task_id,
        task=name,
        body=body,
        queue=queue,
        priority=priority,
        content_type=content_type,
        content_encoding=encoding,
        visible_at=eta,
    )


def _check_options(*, task_id: str | None, queue: str, priority: int | None) -> None:
    for label, value in (("task_id", task_id), ("queue", queue)):
        if value is not None and not is_name(value):
            text = f"{label} is a text of at most {LONGEST_NAME} characters, without NUL, not {value!r:.80}"
            raise ValueError(text)
    if priority is not None and (type(priority) is not int or abs(priority) > HIGHEST_PRIORITY):
        text = f"priority is a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}, not {priority!r:.80}"
        raise ValueError(text)


@async_unsafe(BLOCKING)
def _send(task: Any, messages: Sequence[Message]) -> list[AsyncResult[Any]]:
    alias = broker.current().send(messages)
    sent_in = OpenTransaction(alias) if alias else None
    ignored = getattr(task, "ignore_result", False)
    return [AsyncResult(message.task_id, ignored=ignored, sent_in=sent_in) for message in messages]


def _number(value: float) -> float:
    if isinstance(value, bool):  # timedelta would take it for a number
        raise TypeError(value)
    return value


def _moment(label: str, value: datetime | float | None) -> datetime | None:
    """Return seconds from now, or a moment, as an aware moment in UTC."""
    if value is None:
        return None
    if isinstance(value, datetime):
        aware = value if timezone.is_aware(value) else timezone.make_aware(value)
        return aware.astimezone(UTC)
    try:
        return datetime.now(UTC) + timedelta(seconds=_number(value))
    except (TypeError, ValueError, OverflowError) as error:
        text = f"{label} is a number of seconds{'' if label == 'countdown' else ' or a datetime'}, not {value!r:.80}"
        raise type(error)(text) from error
