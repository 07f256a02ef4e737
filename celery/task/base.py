"""A task is code with a name. Calling `delay` turns a call into one message and gives it to the broker."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from celery import retries
from celery.exceptions import InvalidTask
from celery.message import Call
from celery.messaging import TaskConsumer, TaskPublisher
from celery.registry import tasks
from celery.result import AsyncResult, SentResults
from celery.task.sending import apply_async, requeue, send, send_many

P = ParamSpec("P")
R = TypeVar("R")
ExceptionClass = type[Exception]


class TaskOptions:
    """What can be set on a task: attributes of a class, options of ``@task``. Options of a call win over these."""

    #: The name in messages, by which workers find the task; by default that of the module and of the class or function.
    name: str = ""
    #: ``"regular"``, or ``"periodic"`` for what workers send by the clock.
    type: str = "regular"
    #: The queue that its messages go to; None: the default one.
    queue: str | None = None
    #: The word of AMQP for `queue`, which wins over it.
    routing_key: str | None = None
    #: A whole number, larger is more urgent; on RabbitMQ only with CELERY_QUEUE_MAX_PRIORITY.
    priority: int | None = None
    #: How arguments are written; None: as CELERY_TASK_SERIALIZER says.
    serializer: str | None = None
    #: True: DONE is not stored, so nobody can wait for it. RETRY and FAILURE are.
    ignore_result: bool = False
    #: False: at most once. It is marked before it starts, and never starts again: a fault ends it with WorkerLost.
    acks_late: bool = True
    #: How many retries it may have; None: any number.
    max_retries: int | None = 3
    #: Seconds, or a timedelta, before the first retry: doubled with each, up to an hour, and spread by a quarter.
    retry_interval: float | timedelta = 2
    #: True, or a tuple of exception classes: has the worker ask for a retry when the task raises any, or one of these.
    auto_retry: bool | tuple[ExceptionClass, ...] = False
    #: True: its failures are not mailed to ADMINS.
    disable_error_emails: bool = False
    #: Seconds after which its process is killed, and it has failed with TimeLimitExceeded. None: as
    #: CELERYD_TASK_TIME_LIMIT says; 0: no limit.
    time_limit: float | None = None
    #: Seconds after which SoftTimeLimitExceeded is raised in it. None: as CELERYD_TASK_SOFT_TIME_LIMIT says; 0: no
    #: limit.
    soft_time_limit: float | None = None
    #: Accepted, and changes nothing: every message is mandatory.
    immediate: bool = False
    #: Accepted, and changes nothing: every message is mandatory.
    mandatory: bool = True


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
        """Do the work: every task class defines it. Here it raises NotImplementedError."""
        text = f"{type(self).__name__} defines no run()"
        raise NotImplementedError(text)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now."""
        return self.run(*args, **kwargs)

    @classmethod
    def delay(cls, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Send the task with these arguments. Raises what `celery.task.apply_async` raises."""
        return send(cls, args, kwargs)

    @classmethod
    def apply_async(
        cls, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send the task with options; see `celery.task.apply_async`."""
        return apply_async(cls, args, kwargs, **options)

    @classmethod
    def delay_many(cls, calls: Iterable[Sequence[Any]]) -> SentResults[Any]:
        """Send one call for every tuple of arguments, in batches of 1,000; if one fails, those before it are sent."""
        return send_many(cls, calls)

    @classmethod
    def requeue(cls, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncResult[Any]:
        """Send the task again under the id that it had: a new attempt if the last one is over, so its result counts."""
        return requeue(cls, task_id, args, kwargs)

    @classmethod
    def retry(
        cls,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        **options: Any,
    ) -> NoReturn:
        """Ask for another attempt, with these arguments or the same, and end this one; see `celery.retries.request`.

        `options`: `countdown` (seconds), `eta` (a moment), `max_retries`. Never returns: it raises RetryTask; where no
        retry is left `exc`, or MaxRetriesExceeded; outside this task `exc`, or NotInATask.
        """
        retries.request(cls, args, kwargs, exc, **options)

    def admit(self, call: Call) -> None:
        """Refuse a message before it runs, by raising UntrustedMessage: then it is dead. This one admits all."""

    @classmethod
    def get_logger(cls, **_: Any) -> logging.Logger:
        """Return the logger of this task. The worker has set it up; what is passed in keywords changes nothing."""
        return logging.getLogger(f"celery.task.{cls.name}")

    @classmethod
    def get_publisher(cls) -> TaskPublisher:
        """Return a publisher of messages."""
        return TaskPublisher()

    @classmethod
    def get_consumer(cls) -> TaskConsumer:
        """Return a consumer of messages of this task's queue."""
        return TaskConsumer(queue=cls.queue or cls.routing_key)


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
        """Send the task with these arguments. Raises what `celery.task.apply_async` raises."""
        return send(self, args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send the task with options; see `celery.task.apply_async`."""
        return apply_async(self, args, kwargs, **options)

    def delay_many(self, calls: Iterable[Sequence[Any]]) -> SentResults[R]:
        """Send one call for every tuple of arguments, in batches of 1,000; if one fails, those before it are sent."""
        return send_many(self, calls)

    def requeue(self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncResult[R]:
        """Send the task again under the id that it had: a new attempt if the last one is over, so its result counts."""
        return requeue(self, task_id, args, kwargs)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        **options: Any,
    ) -> NoReturn:
        """Ask for another attempt, with these arguments or the same, and end this one; see `celery.retries.request`.

        `options`: `countdown` (seconds), `eta` (a moment), `max_retries`. Never returns: it raises RetryTask; where no
        retry is left `exc`, or MaxRetriesExceeded; outside this task `exc`, or NotInATask.
        """
        retries.request(self, args, kwargs, exc, **options)

    def __repr__(self) -> str:
        return f"<task {self.name}>"


@overload
def task(function: Callable[P, R]) -> FunctionTask[P, R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[P, R]], FunctionTask[P, R]]: ...


def task(function: Any = None, **options: Any) -> Any:
    """Make a module-level function a task, and register it.

    `options` are the attributes of `celery.task.base.TaskOptions`. Raises InvalidTask for a lambda, a local function, a
    coroutine function or an unknown option; AlreadyRegistered if the name is taken.

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
