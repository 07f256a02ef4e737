"""The tasks of this process, by name."""

from collections.abc import Callable, Iterable
from typing import Any

from celery import discovery
from celery.exceptions import AlreadyRegistered, InvalidTask, NotRegistered
from celery.retries import check_policy

type_ = type


class TaskRegistry(dict[str, Any]):
    """A dictionary of tasks by name. Asking it for a name that is not there raises NotRegistered.

    >>> from celery.registry import tasks
    >>> tasks["no such task"]
    Traceback (most recent call last):
    ...
    celery.exceptions.NotRegistered: no task named 'no such task'...
    """

    AlreadyRegistered = AlreadyRegistered
    NotRegistered = NotRegistered

    def register(self, task: Any, name: str | None = None, task_name: str | None = None) -> None:
        """Register a task class, a task instance or a plain function.

        A function gets the attributes `name` and ``type = "regular"``. Registering the same object again changes
        nothing. Raises AlreadyRegistered if another one has the name, InvalidTask if there is no usable name.
        """
        task = task() if isinstance(task, type_) else task
        known_as = name or task_name or getattr(task, "name", None) or ""
        _check_name(task, known_as)
        if trouble := check_policy(task):
            raise InvalidTask(f"{_origin(task)} cannot be a task: {trouble}")
        holder = self.get(known_as)
        if holder is not None and _origin(holder) != _origin(task):
            text = (
                f"the name {known_as!r} belongs to {_origin(holder)} already, so {_origin(task)} cannot have it. "
                "Give one of the two another `name`."
            )
            raise AlreadyRegistered(text)
        if not hasattr(task, "run"):
            task.name, task.type = known_as, "regular"
        self[known_as] = task

    def unregister(self, name: Any) -> None:
        """Forget a task, given by itself or by name. Raises NotRegistered."""
        known_as = name if isinstance(name, str) else str(getattr(name, "name", name))
        if known_as not in self:
            raise _not_registered(known_as, self)
        del self[known_as]

    def autodiscover(self) -> list[Any]:
        """Import the ``tasks`` module of every installed application, and return the modules.

        See `celery.discovery.autodiscover`.
        """
        return discovery.autodiscover()

    def get_all(self) -> dict[str, Any]:
        """Return all tasks by name, as a new dictionary."""
        return dict(self)

    def filter_types(self, type: str) -> dict[str, Any]:  # noqa: A002 - the classic name
        """Return the tasks of one type: ``"regular"`` or ``"periodic"``."""
        return {name: task for name, task in self.items() if getattr(task, "type", "regular") == type}

    def get_all_regular(self) -> dict[str, Any]:
        """Return the tasks that run when they are called."""
        return self.filter_types("regular")

    def get_all_periodic(self) -> dict[str, Any]:
        """Return the tasks that run by the clock."""
        return self.filter_types("periodic")

    def get_task(self, name: str) -> Any:
        """Return the task of this name. Raises NotRegistered."""
        return self[name]

    def __missing__(self, name: str) -> Any:
        raise _not_registered(name, self)


def _not_registered(name: str, known: Iterable[str]) -> NotRegistered:
    module = name.partition(".")[0]
    return NotRegistered(
        f"no task named {name!r}; is {module!r} in INSTALLED_APPS, and does its tasks.py define it? "
        f"Known: {_shortened(sorted(known))}"
    )


def _check_name(task: Any, name: str) -> None:
    if not callable(task):
        text = f"{task!r} cannot be a task: it is not callable"
        raise InvalidTask(text)
    if not name or not isinstance(name, str):
        text = (
            f"{_origin(task)} has no task name: write tasks.register({_short_name(task)}, 'myapp.{_short_name(task)}')"
        )
        raise InvalidTask(text)
    if len(name) > 255 or "\0" in name:  # noqa: PLR2004 - the column
        text = f"a task name has at most 255 characters and no NUL: {name!r:.100}"
        raise InvalidTask(text)


def _short_name(task: Callable[..., Any]) -> str:
    return getattr(task, "__name__", type_(task).__name__).strip("<>")


def _origin(task: Any) -> str:
    definition = task if hasattr(task, "__qualname__") else type_(task)
    return f"{definition.__module__}.{definition.__qualname__}"


def _shortened(names: Iterable[str], limit: int = 20) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "none at all") + more


tasks = TaskRegistry()

__all__ = ["AlreadyRegistered", "NotRegistered", "TaskRegistry", "tasks"]
