"""The default keyword arguments of the classic interface: `task_id`, `task_name`, `logfile` and `loglevel`.

Each is passed only to a callable that accepts it: by its name or, but for functions under ``@task``, by ``**kwargs``.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from celery import log

NAMES: Final = frozenset({"task_id", "task_name", "logfile", "loglevel"})


class Accepted(NamedTuple):
    """What a callable accepts of `NAMES`: those named, with the position that each could be filled by."""

    positions: Mapping[str, int]
    takes_any: bool


def with_defaults(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, task_id: str, task_name: str
) -> Mapping[str, Any]:
    """Return `kwargs` with the default arguments that `task` accepts and the call does not fill."""
    accepted = _look_up(_code_of(task))
    names = accepted.positions if not accepted.takes_any or hasattr(task, "__wrapped__") else NAMES
    wanted = [name for name in names if name not in kwargs and accepted.positions.get(name, len(args)) >= len(args)]
    if not wanted:
        return kwargs
    values = _values(task_id, task_name)
    return {**kwargs, **{name: values[name] for name in wanted}}


def without_defaults(kwargs: Mapping[str, Any], *, task_id: str, task_name: str) -> dict[str, Any]:
    """Return `kwargs` without the default arguments: a classic task passes on to `retry` all that it was given."""
    values = _values(task_id, task_name)
    return {name: value for name, value in kwargs.items() if name not in values or value != values[name]}


def _values(task_id: str, task_name: str) -> dict[str, Any]:
    return {"task_id": task_id, "task_name": task_name, "logfile": log.current_file(), "loglevel": log.current_level()}


def _code_of(task: Any) -> Callable[..., Any]:
    """Return the function that gets the arguments: `run` of a task, or a plain function itself."""
    found = getattr(task, "run", task)
    return getattr(found, "__func__", found)  # type: ignore[no-any-return]


def _look_up(code: Callable[..., Any]) -> Accepted:
    try:
        return _accepted(code)
    except TypeError:  # it has no hash, such as an instance of a dataclass
        return _accepted.__wrapped__(code)


@lru_cache(maxsize=4096)
def _accepted(code: Callable[..., Any]) -> Accepted:
    try:
        parameters = list(inspect.signature(code).parameters.values())
    except (TypeError, ValueError):  # some callables of C have no signature
        return Accepted({}, takes_any=False)
    if parameters and parameters[0].name == "self":
        del parameters[0]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positions = {
        one.name: position if one.kind is not inspect.Parameter.KEYWORD_ONLY else len(parameters) + 2**16
        for position, one in enumerate(parameters)
        if one.name in NAMES and one.kind in by_name
    }
    return Accepted(positions, takes_any=any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters))
