"""The tasks that run under faults: each notes its start and its end. `kinds` says what each is bound to come to.

CHAOS_WITHOUT names tasks that this process shall not know (blanks between): another deployment.
"""

import faulthandler
import os
import resource
import signal
import time
from contextlib import suppress
from typing import NamedTuple, NoReturn

from celery.current import running
from celery.task import task, tasks
from tests.chaos import history, transactions
from tests.chaos.kinds import KINDS

#: Seconds before a retry.
SOON = 0.15
#: Seconds that a task of the kind "overrun" may take, and within which it is killed for certain when nothing is amiss.
LIMIT, LATEST_KILL = 1.0, 5.0
#: Bytes that a task which eats memory gets before the kernel, in whose place it acts, kills it.
FEAST = 64 * 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")

Value = tuple[str, int, float]


class BrokenError(Exception):
    """The task failed as it was meant to."""


class Run(NamedTuple):
    """One execution: `value` names it."""

    task_id: str
    retries: int
    value: Value

    def finish(self) -> Value:
        history.current().note("finished", id=self.task_id, pid=self.value[1])
        return self.value


def begin(token: str) -> Run:
    """Note that a task starts."""
    me = running.get()
    task_id, attempt, retries = (me.task_id, me.attempt, me.retries) if me else ("", 1, 0)
    pid = os.getpid()
    at = history.current().note("started", id=task_id, token=token, attempt=attempt, pid=pid, worker=os.getppid())
    return Run(task_id, retries, (token, pid, at))


@task(name="chaos.work")
def work(token: str, seconds: float, _payload: str = "") -> Value:
    """Take some time."""
    run = begin(token)
    if seconds:
        time.sleep(seconds)
    return run.finish()


@task(name="chaos.quiet", ignore_result=True)
def quiet(token: str, seconds: float) -> Value:
    run = begin(token)
    time.sleep(seconds)
    return run.finish()


@task(name="chaos.once", acks_late=False)
def once(token: str, seconds: float) -> Value:
    run = begin(token)
    time.sleep(seconds)
    return run.finish()


@task(name="chaos.rare")
def rare(token: str, seconds: float) -> Value:
    """Take some time. Not every deployment knows this task."""
    run = begin(token)
    time.sleep(seconds)
    return run.finish()


# -- trying again


@task(name="chaos.retry", max_retries=10)
def retry(token: str, times: int) -> Value:
    """Ask for so many further attempts."""
    run = begin(token)
    value = run.finish()
    if run.retries < times:
        retry.retry(countdown=SOON)
    return value


@task(name="chaos.auto_retry", max_retries=10, auto_retry=(BrokenError,), retry_interval=SOON / 3)
def auto_retry(token: str, times: int) -> Value:
    """Fail so often."""
    run = begin(token)
    value = run.finish()
    if run.retries < times:
        raise BrokenError(*value)
    return value


# -- failing


@task(name="chaos.broken")
def broken(token: str) -> NoReturn:
    raise BrokenError(*begin(token).finish())


@task(name="chaos.leave")
def leave(token: str) -> NoReturn:
    raise SystemExit(*begin(token).finish())


@task(name="chaos.interrupt")
def interrupt(token: str) -> NoReturn:
    raise KeyboardInterrupt(*begin(token).finish())


# -- dying


@task(name="chaos.poison")
def poison(token: str, how: str) -> None:
    """End the process at every start."""
    _die(begin(token), how)


@task(name="chaos.poison_at_most_once", acks_late=False)
def poison_at_most_once(token: str, how: str) -> None:
    _die(begin(token), how)


@task(name="chaos.poison_once")
def poison_once(token: str, how: str) -> Value:
    """End the process at the first start; a file beside the history tells later ones."""
    run = begin(token)
    with suppress(FileExistsError):
        history.current().path.with_name(f"died-{token}").touch(exist_ok=False)
        _die(run, how)
    return run.finish()


@task(name="chaos.overrun", time_limit=LIMIT)
def overrun(token: str) -> None:
    """Run until killed."""
    run = begin(token)
    _note_ending(run, "time limit", LATEST_KILL)
    while True:
        time.sleep(1)


def _note_ending(run: Run, how: str, within: float) -> None:
    until = history.now() + within
    history.current().note("ending", id=run.task_id, pid=run.value[1], how=how, until=until)


def _exit() -> None:
    os._exit(0)


def _fault() -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined] # a true one


def _eat() -> None:
    """Take memory until there is none, then die as the kernel would have it; the machine's own is not touched."""
    used = int(open("/proc/self/statm", "rb").read().split()[0]) * PAGE  # noqa: PTH123, SIM115 - we end in a moment
    resource.setrlimit(resource.RLIMIT_AS, (used + FEAST, used + FEAST))
    hoard: list[bytes] = []
    with suppress(MemoryError):
        while True:
            hoard.append(b"x" * 2**20)
    os.kill(os.getpid(), signal.SIGKILL)


DEATHS = {"exit": _exit, "segfault": _fault, "memory": _eat}


def _die(run: Run, how: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _note_ending(run, how, LATEST_KILL)
    DEATHS[how]()


# -- sending


@task(name="chaos.parent")
def parent(token: str) -> Value:
    """Send a task in a transaction, and another one in a savepoint that is rolled back."""
    run = begin(token)
    kept, dropped = (f"{token}/{run.value[1]}-{letter}-{run.value[2]}" for letter in "kd")
    note = history.current().note
    note("asked", tokens=[kept, dropped], route="nested", kind="work", attempts=1)
    try:
        with transactions.committed():
            kept_id = work.delay(kept, 0).task_id
            with transactions.rolled_back():
                dropped_id = work.delay(dropped, 0).task_id
    except Exception as error:  # noqa: BLE001 - whatever it is: nobody knows whether it was sent
        note("raised", tokens=[kept], error=f"{type(error).__name__}: {error}")
    else:
        note("confirmed", pairs=[(kept_id, kept)])
        note("rolled_back", pairs=[(dropped_id, dropped)])
    return run.finish()


BY_KIND = {kind: tasks[f"chaos.{kind}"] for kind in KINDS}

for name in os.environ.get("CHAOS_WITHOUT", "").split():
    tasks.unregister(name)
