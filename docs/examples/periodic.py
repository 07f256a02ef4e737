"""Tasks that workers send by the clock.

>>> from periodic import Sweep, report
>>> report()
'nothing new'

Whoever asks gets the same answer to when it is due:

>>> from datetime import UTC, datetime
>>> friday_noon = datetime(2026, 6, 5, 12, tzinfo=UTC)
>>> report.run_every.following(friday_noon).isoformat()
'2026-06-08T01:00:00+00:00'
>>> report.run_every.latest(friday_noon).isoformat()
'2026-06-05T01:00:00+00:00'

Sending it by hand is possible too, and has nothing to do with its schedule:

>>> Sweep.delay().get()
'swept'
"""

from datetime import timedelta

from celery.schedules import crontab
from celery.task import PeriodicTask, periodic_task, tasks


@periodic_task(run_every=crontab("0 3 * * mon-fri", timezone="Europe/Berlin"), expires=3600)
def report() -> str:
    return "nothing new"


class Sweep(PeriodicTask):
    name = "shop.sweep"
    run_every = timedelta(minutes=5)

    def run(self) -> str:
        return "swept"


tasks.register(Sweep)
