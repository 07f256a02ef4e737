"""Two deployments side by side: one worker knows a task that the other one does not."""

import time

from django.apps import apps
from django.db import connections

from celery.message import UNKNOWN_FOR
from tests.chaos.faults.base import Fault, Field, Struck

#: The task that only the newer deployment has.
NEWER = "chaos.rare"
#: Seconds until somebody has sent it, and the older deployment has got it.
PATIENCE = 25.0
#: Tasks that are seen to be put off before it is over.
ENOUGH = 5


class TwoDeployments(Fault):
    """One worker is started from older code, meets a task that it does not know, and is started from newer code.

    Excuses nothing: such a task is tried again until somebody knows it.
    """

    name = "two deployments"
    seconds = 15.0

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        if aim is None:
            return None
        name = field.workers.name_of(aim.pid)
        since = time.monotonic()
        field.workers.restart(name, {"CHAOS_WITHOUT": NEWER})
        try:
            unknown = _put_off_within(PATIENCE)
        finally:
            field.workers.restart(name, {})
        if not unknown:
            return None
        return Struck(since=since, until=time.monotonic(), proof=f"{name} put off {unknown} tasks that it did not know")


def _put_off_within(seconds: float) -> int:
    """Return how many messages were put off because their task is not known: a few, or what there was in time."""
    connections.close_all()  # ours may not have outlived the fault before
    messages = apps.get_model("celery", "Message").objects.filter(task=NEWER, headers__contains=UNKNOWN_FOR)
    deadline = time.monotonic() + seconds
    seen: set[str] = set()
    while len(seen) < ENOUGH and time.monotonic() < deadline:
        seen.update(messages.values_list("task_id", flat=True))
        time.sleep(0.1)
    connections.close_all()
    return len(seen)


FAULTS = (TwoDeployments(),)
