"""Tasks that are tried again, and what one sees of it. The worker of `celery.testing` runs what is due when it is told.

`charge` asks for another attempt itself. Until then its state is RETRY, and its result so far the reason:

>>> from celery.testing import worker
>>> from retries import ImportFeed, charge, fetch, troubles
>>> troubles += [ConnectionError("the bank does not answer")]
>>> with worker() as w:
...     result = charge.delay("4711")
...     print([(run.attempt, run.state) for run in w.run()])
...     print(result.status, repr(result.result))
...     print([(run.attempt, run.state) for run in w.run_scheduled()])
...     print(result.get())
[(1, 'RETRY')]
RETRY ConnectionError('the bank does not answer')
[(2, 'DONE')]
4711: done

`fetch` is tried again by the worker, after errors of the kinds that it names. When it has had all its retries, it
fails with the last of them:

>>> troubles += [TimeoutError("the last"), TimeoutError("the second"), TimeoutError("the first")]
>>> with worker() as w:
...     result = fetch.delay("https://example.com/")
...     print([(run.attempt, run.state) for run in [*w.run(), *w.run_scheduled()]])
[(1, 'RETRY'), (2, 'RETRY'), (3, 'FAILURE')]
>>> result.get()
Traceback (most recent call last):
...
TimeoutError: the last

Other errors are its failure at once:

>>> troubles += [ValueError("nothing will make this better")]
>>> with worker() as w:
...     result = fetch.delay("https://example.com/")
...     print([(run.attempt, run.state) for run in w.run()])
[(1, 'FAILURE')]

The classic form passes on all that the task was given:

>>> troubles += [OSError("the disk is away")]
>>> with worker() as w:
...     result = ImportFeed.delay("news")
...     print([(run.attempt, run.state) for run in [*w.run(), *w.run_scheduled()]])
...     print(result.get())
[(1, 'RETRY'), (2, 'DONE')]
news: done
"""

from datetime import timedelta
from typing import Any

from celery.task import Task, task, tasks

#: What the world outside is going to answer with, the last one first.
troubles: list[Exception] = []


def ask(what: str) -> str:
    if troubles:
        raise troubles.pop()
    return f"{what}: done"


@task(max_retries=5, retry_interval=10)
def charge(number: str) -> str:
    try:
        return ask(number)
    except ConnectionError as error:
        charge.retry(exc=error)


@task(auto_retry=(ConnectionError, TimeoutError), max_retries=2, retry_interval=timedelta(minutes=1))
def fetch(url: str) -> str:
    return ask(url)


class ImportFeed(Task):
    name = "shop.import_feed"
    max_retries = None

    def run(self, feed: str, **kwargs: Any) -> str:
        try:
            return ask(feed)
        except OSError as exc:
            self.retry([feed], kwargs, exc=exc)


tasks.register(ImportFeed)
