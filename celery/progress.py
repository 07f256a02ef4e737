"""The progress bar of `TaskSetResult.join`. It needs tqdm, so it is imported by name only, and only when asked for."""

import shutil
from collections.abc import Generator, Iterable

from tqdm import tqdm

from celery import states
from celery.backends.base import Result


class Bar(tqdm):  # type: ignore[type-arg] # it has arguments for type checkers only
    """tqdm without its monitoring thread, which outlives the bar and is not to be in a process that forks."""

    monitor_interval = 0


def watched(arrivals: Iterable[Result], total: int) -> Generator[Result, None, None]:
    """Hand on `arrivals` and show on standard error how many came, how fast, and how many failed.

    Where standard error is no terminal, nothing is shown.
    """
    failed = 0
    with Bar(total=total, desc="subtasks", unit=" tasks", disable=None, ncols=_columns()) as bar:
        bar.set_postfix(failed=failed)
        for stored in arrivals:
            if stored.state == states.FAILURE:
                failed += 1
                bar.set_postfix(failed=failed, refresh=False)
            bar.update()
            yield stored


def _columns() -> int:
    """Return the width of the terminal; 80 for one that says 0, on which tqdm would draw nothing at all."""
    return shutil.get_terminal_size().columns
