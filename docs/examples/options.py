"""Options of one call win over those of the task.

>>> from options import newsletter
>>> newsletter.delay("Ada").get()
'Dear Ada'

Its queue is `mail`, and the next call goes to another one. A worker takes from the default queue only, which is named
`celery`, unless it is told otherwise: these calls need one that was started with `celeryd -Q celery,mail,urgent`.

Urgent, in a queue of its own, and not after ten minutes have passed:

>>> newsletter.apply_async(("Ada",), queue="urgent", priority=9, expires=600).get()
'Dear Ada'

Tomorrow. It waits in the database until then, whatever the broker:

>>> from datetime import timedelta
>>> from django.utils import timezone
>>> newsletter.apply_async(("Ada",), eta=timezone.now() + timedelta(days=1)).status
'PENDING'

Many. Any iterable of tuples will do; one that is read from a file or a query is never in memory as a whole:

>>> names = ["Ada", "Grace", "Mary"]
>>> [result.get() for result in newsletter.delay_many((name,) for name in names)]
['Dear Ada', 'Dear Grace', 'Dear Mary']

An id of your own keeps a second message away while the first one waits:

>>> newsletter.apply_async(("Ada",), task_id="newsletter-2026-11-Ada").task_id
'newsletter-2026-11-Ada'
"""

from celery.task import task


@task(queue="mail")
def newsletter(name: str) -> str:
    return f"Dear {name}"
