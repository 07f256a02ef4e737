"""Trying again: whether, and after how long. The child makes a RETRY and the next message of what `request` raises."""

import math
import random
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from celery.arguments import without_defaults
from celery.calling import moment
from celery.current import running
from celery.exceptions import MaxRetriesExceeded, NotInATask, RetryTask

#: Seconds beyond which pauses do not grow.
LONGEST_PAUSE: Final = 3600.0
#: Seconds beyond which an interval is a slip of the hand.
LONGEST_INTERVAL: Final = 366 * 24 * 3600.0
#: A pause is spread by this part of itself to both sides, so that what failed together does not come back together.
JITTER: Final = 0.25


def request(  # noqa: PLR0913 - the classic signature
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    exc: BaseException | None = None,
    *,
    countdown: float | None = None,
    eta: datetime | None = None,
    max_retries: float | None = None,
) -> NoReturn:
    """Ask for another attempt of the task that runs here, and end this one by raising RetryTask.

    `args` and `kwargs` replace those of the call where they are not None. The next attempt waits for `countdown`
    seconds, or for the moment `eta`, or as `retry_interval` of the task says. `max_retries` wins over that of the task.

    `exc` is by default the exception that is being handled. Where no retry is left, it is raised, or if there is none
    MaxRetriesExceeded; where another task runs here, or no task, it is raised, or NotInATask. Raises TypeError,
    ValueError or OverflowError for a `countdown` that is no number.
    """
    exc = sys.exception() if exc is None else exc
    now = running.get()
    name = getattr(task, "name", None)
    if now is None or now.name != name:
        found = f"a worker runs {now.name}" if now else "no worker runs anything"
        raise NotInATask(f"{name} asks for another attempt, but here {found}") if exc is None else exc
    limit = max_retries if max_retries is not None else getattr(task, "max_retries", None)
    if limit is not None and now.retries >= limit:
        text = f"{now.name} asked for another attempt after {now.retries} retries"
        raise MaxRetriesExceeded(text) if exc is None else exc
    when = moment("countdown", countdown) or moment("eta", eta) or _by_policy(task, now.retries)
    if kwargs is not None:
        kwargs = without_defaults(kwargs, task_id=now.task_id, task_name=now.name)
    raise RetryTask(exc, args=args, kwargs=kwargs, when=when) from exc


def check_policy(task: Any) -> str | None:
    """Return what is wrong with the options of `task` that concern retries, as a sentence, or None."""
    limit = getattr(task, "max_retries", None)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0):
        return f"max_retries is a number from 0, or None for no limit, not {limit!r:.80}"
    interval = getattr(task, "retry_interval", 0)
    is_number = isinstance(interval, int | float | timedelta) and not isinstance(interval, bool)
    if not is_number or not 0 <= _seconds(interval) <= LONGEST_INTERVAL:
        return f"retry_interval is a number of seconds from 0, at most a year, or a timedelta, not {interval!r:.80}"
    kinds = getattr(task, "auto_retry", False)
    if not isinstance(kinds, bool) and not _are_exceptions(kinds):
        return f"auto_retry is True, False or a tuple of exception classes, not {kinds!r:.80}"
    return None


def _are_exceptions(kinds: Any) -> bool:
    return isinstance(kinds, tuple) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)


def is_automatic(task: Any, error: Exception) -> bool:
    """Tell whether `task` wants to be tried again after `error` without asking."""
    kinds = getattr(task, "auto_retry", False)
    if isinstance(kinds, bool):
        return kinds
    return isinstance(error, kinds)


def _by_policy(task: Any, retries: int) -> datetime:
    chance = random.uniform(-JITTER, JITTER)  # noqa: S311 - it need not be unguessable
    return datetime.now(UTC) + timedelta(seconds=pause(getattr(task, "retry_interval", 0), retries, chance=chance))


def pause(interval: float | timedelta, retries: int, *, chance: float = 0.0) -> float:
    """Return the seconds before the next attempt: `interval`, doubled with each retry, spread by the part `chance`.

    >>> [pause(2, retries) for retries in range(4)]
    [2.0, 4.0, 8.0, 16.0]
    >>> pause(2, 1000)
    3600.0
    """
    seconds = _seconds(interval)
    doubled = math.ldexp(seconds, min(retries, 64)) * (1 + chance)
    return max(0.0, min(doubled, max(LONGEST_PAUSE, seconds)))


def _seconds(interval: float | timedelta) -> float:
    return interval.total_seconds() if isinstance(interval, timedelta) else float(interval)
