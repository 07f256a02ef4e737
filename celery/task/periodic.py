"""Tasks that workers send by the clock: `PeriodicTask`, its form as a function, and the one that comes with us.

Here they are only defined. What is due is found by `celery.schedules`, and sent by `celery.backends.periodic`.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from django.core import checks
from django.core.checks import CheckMessage

from celery import backends, conf, schedules
from celery.registry import tasks
from celery.schedules import Schedule
from celery.task.base import FunctionTask, Task, task

P = ParamSpec("P")
R = TypeVar("R")


class PeriodicTask(Task):
    """A task that workers send by the clock, without arguments. Register it like any other.

    Raises InvalidSchedule where the class is defined, or, without `run_every`, where it is registered.

    >>> from datetime import timedelta
    >>> from celery.task import PeriodicTask, tasks
    >>> class Sweep(PeriodicTask):
    ...     name = "docs.sweep"
    ...     run_every = timedelta(minutes=5)
    ...
    ...     def run(self):
    ...         return "clean"
    >>> tasks.register(Sweep)
    """

    #: It is found by this among other tasks.
    type: str = "periodic"
    #: Seconds, a timedelta, or a schedule: `celery.schedules.crontab`, `celery.schedules.every`. Required.
    run_every: Any = None
    #: Seconds, or a timedelta: not started so long after it was sent, it fails with TaskExpired. None: it never does.
    expires: float | timedelta | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check what the class says of its times."""
        super().__init_subclass__(**kwargs)
        if cls.run_every is not None:
            schedules.schedule_of(cls.run_every)
        if cls.expires is not None:
            schedules.every(cls.expires)

    def __init__(self) -> None:
        schedules.schedule_of(self.run_every)
        if not isinstance(self.run_every, Schedule | timedelta):
            self.run_every = timedelta(seconds=self.run_every)  # classic code reads a timedelta here


class PeriodicFunction(FunctionTask[P, R]):
    """A function as a periodic task, made by `periodic_task`."""

    type: str = "periodic"
    run_every: Any = None
    expires: float | timedelta | None = None


def periodic_task(
    *, run_every: Any, expires: float | timedelta | None = None, **options: Any
) -> "Callable[[Callable[P, R]], PeriodicFunction[P, R]]":
    """Make a module-level function a periodic task, and register it.

    `run_every` and `expires` as in `PeriodicTask`; the other options are those of `celery.task.task`. Raises
    InvalidSchedule, and what `celery.task.task` raises.

    >>> from celery.schedules import crontab
    >>> from celery.task import periodic_task
    >>> @periodic_task(run_every=crontab(0, 3, "mon-fri"), name="docs.report")
    ... def report():
    ...     return "nothing new"
    >>> report()
    'nothing new'
    """
    times = {"run_every": schedules.schedule_of(run_every), "expires": expires}
    if expires is not None:
        schedules.every(expires)
    return _Decorator(times, options)


class _Decorator:
    """``@periodic_task(...)`` waiting for its function."""

    def __init__(self, times: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._times = times
        self._options = options

    def __call__(self, function: Callable[P, R]) -> PeriodicFunction[P, R]:
        plain = task(**self._options)(function)  # checks function and options; the periodic one takes its place
        made = PeriodicFunction(function, {**self._options, **self._times, "name": plain.name})
        tasks.register(made, made.name)
        return made


class DeleteExpiredTaskMetaTask(PeriodicTask):
    """Deletes expired results (CELERY_TASK_RESULT_EXPIRES), once a day, where the backend does not do so by itself."""

    name = "celery.delete_expired_task_meta"
    run_every = timedelta(days=1)

    def run(self) -> int:
        """Return how many were deleted."""
        return backends.default().cleanup()


tasks.register(DeleteExpiredTaskMetaTask)


@checks.register("celery")
def check_periodic_status(**_: Any) -> list[CheckMessage]:
    """Check that the backend of CELERY_PERIODIC_STATUS_BACKEND can be had, and keeps periodic tasks."""
    name = conf.PERIODIC_STATUS_BACKEND
    trouble = _trouble(name) if isinstance(name, str) else None
    if trouble is None:
        return []
    hint = "Write 'database', or leave it out: only a database takes a moment and its message in one transaction."
    return [checks.Error(f"CELERY_PERIODIC_STATUS_BACKEND = {name!r:.80} {trouble}.", hint=hint, id="celery.E011")]


def _trouble(name: str) -> str | None:
    try:
        can = backends.get_backend_cls(name).capabilities
    except Exception as error:  # noqa: BLE001 - importing it runs any code
        return f"cannot be had: {type(error).__name__}: {error}"
    return None if "PeriodicStatus" in can else "cannot keep the state of periodic tasks"
