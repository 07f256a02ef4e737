"""The observer looks at the stored results when all is over. It needs Django to be set up."""

from collections.abc import Iterable

from celery import backends, states
from celery.backends.base import Result
from tests.chaos.history import History

PAGE = 1000


def note_results(history: History, task_ids: Iterable[str]) -> None:
    """Note the stored result of each of these tasks that has one."""
    wanted = sorted(task_ids)
    for at in range(0, len(wanted), PAGE):
        for task_id, result in backends.default().fetch(wanted[at : at + PAGE]).items():
            history.note("final", id=task_id, state=result.state, value=value_of(result))


def value_of(result: Result) -> object:
    """Return a value, or the name of an exception and its arguments, so that both can be noted."""
    value = backends.default().to_python(result)
    if result.state == states.DONE or not isinstance(value, BaseException):
        return value
    arguments = getattr(value, "exc_args", None) or value.args  # of a stand-in, those of the original
    return [type(value).__name__, *(one if isinstance(one, str | int | float) else repr(one) for one in arguments)]
