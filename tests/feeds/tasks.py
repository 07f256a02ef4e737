"""Tasks in the style of 2009: classes with a `name`, functions that are registered, `**kwargs` everywhere."""

from datetime import timedelta

from celery.registry import tasks
from celery.task import PeriodicTask, Task, TaskSet
from tests.shop import ledger


class UpdateFeedTask(Task):
    name = "feeds.update_feed"

    def run(self, feed_url, **kwargs):
        logger = self.get_logger(**kwargs)
        logger.info("Updating feed %s for task %s" % (feed_url, kwargs["task_id"]))
        return {"url": feed_url, "entries": len(feed_url), "task": kwargs["task_name"]}


tasks.register(UpdateFeedTask)


def connect(times):
    if times < 3:
        raise OSError("the host does not answer")


class FetchFlakyFeedTask(Task):
    """Fails at first, and asks for another attempt with all that it was given."""

    name = "feeds.fetch_flaky_feed"
    max_retries = 5
    retry_interval = timedelta(milliseconds=10)

    def run(self, feed_url, ledger_path, **kwargs):
        ledger.append(ledger_path, "fetch %s" % feed_url)
        try:
            connect(ledger.executions(ledger_path)["fetch %s" % feed_url])
        except OSError as exc:
            self.retry([feed_url, ledger_path], kwargs, exc=exc)
        return "fetched %s" % feed_url


tasks.register(FetchFlakyFeedTask)


def count_words(text, **kwargs):
    return len(text.split())


tasks.register(count_words, name="feeds.count_words")


class RefreshAllFeedsTask(Task):
    """Sends a set of subtasks, and returns what is needed to ask for them."""

    name = "feeds.refresh_all_feeds"

    def run(self, urls, **kwargs):
        taskset = TaskSet(UpdateFeedTask, args=[[[url], {}] for url in urls])
        result = taskset.run()
        return [result.taskset_id, result.subtask_ids]


tasks.register(RefreshAllFeedsTask)


class CountClicksTask(PeriodicTask):
    name = "feeds.count_clicks"
    run_every = timedelta(seconds=1)

    def run(self, **kwargs):
        logger = self.get_logger(**kwargs)
        logger.info("Counting clicks.")


tasks.register(CountClicksTask)
