"""The worker's names of 0.2, over the worker's own code: nothing here runs or stores a task by itself.

`jail` runs a function and stores what became of it, as a child does; `TaskWrapper` is a message with its task, to be
run here or in a pool; `WorkController` is a whole worker.
"""

import logging
import os
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from celery import conf, log, mail, signals, states
from celery.arguments import with_defaults
from celery.backends import exceptions as stored_exceptions
from celery.datastructures import ExceptionInfo
from celery.exceptions import EmptyQueue, MeaninglessOption, UnknownTask
from celery.message import Call, Delivery, from_json
from celery.platform import require_linux
from celery.registry import tasks
from celery.worker import connections, writes
from celery.worker.child import run_call
from celery.worker.job import Job
from celery.worker.options import Options
from celery.worker.supervisor import Supervisor

__all__ = ["EmptyQueue", "TaskWrapper", "UnknownTask", "WorkController", "jail"]

#: The name in results of what no worker ran.
WORKER: Final = "jail"


def jail(task_id: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run `func`, store its value as DONE or its exception as FAILURE, and return the value or an `ExceptionInfo`.

    The value is returned as it is stored, so a tuple comes out as a list. Nothing that `func` raises gets out of here;
    what the result backend raises does.
    """
    name = str(getattr(func, "name", "") or getattr(func, "__name__", ""))
    return _perform(Call(task=name, task_id=task_id, args=list(args), kwargs=dict(kwargs)), func).value()


class Ended(NamedTuple):
    """What became of a call, in texts: it can travel from a process of a pool."""

    kind: str
    result: str
    traceback: str
    error: str
    runtime: float

    def value(self) -> Any:
        """Return the value, or an `ExceptionInfo`."""
        if self.kind == states.DONE:
            return from_json(self.result)
        return ExceptionInfo(stored_exceptions.load(self.result), traceback=self.traceback)


def _perform(call: Call, task: Any) -> Ended:
    """Run and store; `task` None stands for the registered one (a task object cannot be pickled, its name can)."""
    work = Job(0, 0, Delivery(call.task_id, 0, conf.AMQP_CONSUMER_QUEUE, 0, "", b""))
    outcome = run_call(work, call, tasks[call.task] if task is None else task, time.monotonic())
    for written, plan in writes.write([outcome], owner="", worker=f"{WORKER}@{platform.node()}"):
        if written.kind == states.RETRY:
            writes.announce(written, plan)
    return Ended(outcome.kind, outcome.result, outcome.traceback, outcome.error, outcome.runtime)


class TaskWrapper:
    """A call with its task, to be run by hand.

    `retries`: those that it has had; `logger`: is told of what cannot be stored.
    """

    def __init__(  # noqa: PLR0913 - the classic signature
        self,
        task_name: str,
        task_id: str,
        task_func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        retries: int = 0,
        logger: logging.Logger | None = None,
    ) -> None:
        self.task_name = task_name
        self.task_id = task_id
        self.task_func = task_func
        self.args = args
        self.kwargs = kwargs
        self.retries = retries
        self.logger = logger or log.task_logger

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.task_name}[{self.task_id}] args:{self.args!r} kwargs:{self.kwargs!r}>"

    @classmethod
    def from_message(cls, message: Any, logger: logging.Logger | None = None) -> Self:
        """Return the call in a message of `celery.messaging.TaskConsumer`. Raises UnknownTask, UndecodableMessage."""
        body = message.decode()
        if body["task"] not in tasks:
            raise UnknownTask(f"no task named {body['task']!r} is registered here; requeue the message, or reject it")
        task, retries = tasks[body["task"]], body.get("retries") or 0
        return cls(body["task"], body["id"], task, body["args"], body["kwargs"], retries=retries, logger=logger)

    def extend_with_default_kwargs(self, loglevel: Any = None, logfile: str | None = None) -> dict[str, Any]:
        """Return the keyword arguments, with those of the default ones that the task accepts."""
        extended = with_defaults(self.task_func, self.args, self.kwargs, task_id=self.task_id, task_name=self.task_name)
        given = {"loglevel": loglevel, "logfile": logfile}
        known = {name: value for name, value in given.items() if value is not None and name in extended}
        return {**extended, **{name: value for name, value in known.items() if name not in self.kwargs}}

    def execute(self, loglevel: Any = None, logfile: str | None = None) -> Any:
        """Run the task here and store what became of it; return the value, or an `ExceptionInfo`."""
        return self._ended(_perform(self._call(loglevel, logfile), self.task_func))

    def _call(self, loglevel: Any, logfile: str | None) -> Call:
        kwargs = self.extend_with_default_kwargs(loglevel, logfile)
        return Call(
            task=self.task_name, task_id=self.task_id, args=list(self.args), kwargs=kwargs, retries=self.retries
        )

    def execute_using_pool(self, pool: Any, loglevel: Any = None, logfile: str | None = None) -> Any:
        """Run the task in `pool`, which has the `apply_async` of `multiprocessing.pool`, and return what that returns.

        `on_success` or `on_failure` is called here. The processes of a pool must not share database connections with
        this one: start them before there are any.
        """
        is_registered = tasks.get(self.task_name) is self.task_func
        work = (self._call(loglevel, logfile), None if is_registered else self.task_func)
        return pool.apply_async(_perform, work, callback=self._ended, error_callback=self._not_stored)

    def _ended(self, ended: Ended) -> Any:
        value = ended.value()
        meta = {"task_id": self.task_id, "task_name": self.task_name, "runtime": ended.runtime, "error": ended.error}
        if ended.kind == states.DONE:
            self.on_success(value, meta)
        elif ended.kind == states.FAILURE:
            self.on_failure(value, meta)
        return value

    def _not_stored(self, error: BaseException) -> None:
        self.logger.error("What became of task %s[%s] is not stored: %r", self.task_name, self.task_id, error)

    def on_success(self, ret_value: Any, meta: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - for subclasses
        """Tell listeners that the task is done: the log has a line for it. Called after the result is stored."""
        self._tell(states.DONE, meta or {}, error="", traceback="")

    def on_failure(self, exc_info: ExceptionInfo, meta: Mapping[str, Any] | None = None) -> None:
        """Tell listeners that the task failed: a line in the log, an e-mail to ADMINS. Called after that is stored."""
        meta = meta or {}
        error = meta.get("error") or f"{type(exc_info.exception).__name__}: {exc_info.exception}"
        self._tell(states.FAILURE, meta, error=error, traceback=exc_info.traceback)

    def _tell(self, state: str, meta: Mapping[str, Any], *, error: str, traceback: str) -> None:
        signals.notify(
            signals.task_finished,
            task_id=self.task_id,
            name=self.task_name,
            attempt=self.retries + 1,
            state=state,
            runtime=float(meta.get("runtime") or 0.0),
            error=error,
            traceback=traceback,
        )


class WorkController:
    """A worker: what `celeryd` starts. Defaults are those of the settings.

    `queue_wakeup_after` and `is_detached` are accepted with the warning MeaninglessOption.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        logfile: str | None = None,
        loglevel: str | int | None = None,
        queue_wakeup_after: float | None = None,
        is_detached: bool = False,  # noqa: FBT001, FBT002 - the classic signature
    ) -> None:
        if queue_wakeup_after is not None or is_detached:
            text = "queue_wakeup_after and is_detached of WorkController mean nothing any more: leave them out"
            warnings.warn(text, MeaninglessOption, stacklevel=2)
        self.concurrency = conf.DAEMON_CONCURRENCY if concurrency is None else concurrency
        self.logfile = logfile
        self.loglevel = loglevel

    def run(self) -> int:
        """Work until told to stop by a signal, and return the exit code. For the main thread of a process."""
        require_linux()
        log.setup_logger(self.loglevel, self.logfile)
        mail.connect()
        connections.prepare()
        options = Options(
            name=f"{platform.node()}.{os.getpid()}"[:255],
            queues=(conf.AMQP_CONSUMER_QUEUE,),
            children=self.concurrency,
            time_limit=conf.TASK_TIME_LIMIT,
            soft_time_limit=conf.TASK_SOFT_TIME_LIMIT,
            max_tasks=conf.MAX_TASKS_PER_CHILD,
            max_memory=conf.MAX_MEMORY_PER_CHILD,
            drain_timeout=float(conf.DRAIN_TIMEOUT),
            beat=bool(conf.DAEMON_BEAT),
        )
        return Supervisor(options).run()
