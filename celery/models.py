"""The rows: results, messages, workers, periodic tasks, history. Reading and administration go through these models.

The hot statements on messages and workers are raw SQL, one file a dialect, in `celery.broker.store`.
"""

from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from django.db.models import Q
from django.utils import timezone

from celery import states
from celery.managers import BesideMessagesManager, PeriodicTaskManager, TaskManager
from celery.registry import tasks


class PartiallyIndexed(models.Model):
    """A row whose indexes have conditions."""

    class Meta:
        abstract = True

    @classmethod
    def check(cls, **options: Any) -> list[CheckMessage]:
        """Leave W037 out: where conditions of indexes are ignored, the migrations make indexes that need none."""
        return [found for found in super().check(**options) if found.id != "models.W037"]


class TaskMeta(PartiallyIndexed):
    """The result of a task: one row an id, conditionally overwritten by later attempts."""

    task_id = models.CharField("task id", max_length=255, unique=True)
    name = models.CharField("task name", max_length=255, default="", blank=True)
    status = models.CharField(
        "state", max_length=50, default=states.PENDING, choices=[(state, state) for state in sorted(states.ALL_STATES)]
    )
    attempt = models.IntegerField("attempt", default=1)
    result = models.TextField("result", default="", blank=True)
    traceback = models.TextField("traceback", default="", blank=True)
    worker = models.CharField("worker", max_length=255, default="", blank=True)
    runtime = models.FloatField("runtime in seconds", null=True, blank=True)
    date_done = models.DateTimeField("done at", default=timezone.now)

    objects = TaskManager()

    class Meta:
        db_table = "celery_taskmeta"
        verbose_name = "task result"
        verbose_name_plural = "task results"
        indexes = (
            models.Index(fields=["date_done"], name="celery_taskmeta_done"),
            models.Index(fields=["name", "date_done"], name="celery_taskmeta_name"),
            models.Index(fields=["status", "date_done"], name="celery_taskmeta_odd", condition=~Q(status=states.DONE)),
        )

    def __str__(self) -> str:
        return f"<Task: {self.task_id} done:{self.status}>"


class Message(PartiallyIndexed):
    """A message in the database: waiting, scheduled, in the outbox, owned by a worker, or dead.

    A row is ready when `visible_at`, `owner` and `dead_at` are all empty.
    """

    task_id = models.CharField("task id", max_length=255)
    attempt = models.IntegerField("attempt", default=1)
    task = models.CharField("task name", max_length=255)
    queue = models.CharField("queue", max_length=255)
    rank = models.SmallIntegerField("rank", default=0, help_text="the negated priority: the smallest goes first")
    body = models.BinaryField("body")
    headers = models.TextField("headers", default="", blank=True)
    created_at = models.DateTimeField("created at", default=timezone.now)
    visible_at = models.DateTimeField("not before", null=True, blank=True)
    owner = models.CharField("owner", max_length=32, null=True, blank=True)  # noqa: DJ001 - no owner is no text
    suspect = models.BooleanField("handed over before", default=False)
    starts = models.SmallIntegerField("starts without an end", default=0)
    crashes = models.SmallIntegerField("crashes", default=0)
    dead_at = models.DateTimeField("dead since", null=True, blank=True)
    reason = models.TextField("reason", default="", blank=True)

    class Meta:
        db_table = "celery_message"
        verbose_name = "message"
        constraints = (models.UniqueConstraint(fields=["task_id", "attempt"], name="celery_message_attempt"),)
        indexes = (
            models.Index(
                fields=["queue", "rank", "id"],
                name="celery_message_ready",
                condition=Q(visible_at__isnull=True, owner__isnull=True, dead_at__isnull=True),
            ),
            models.Index(
                fields=["visible_at"],
                name="celery_message_due",
                condition=Q(visible_at__isnull=False, owner__isnull=True),
            ),
            models.Index(fields=["owner"], name="celery_message_owner", condition=Q(owner__isnull=False)),
            models.Index(fields=["dead_at"], name="celery_message_dead", condition=Q(dead_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"<Message: {self.task} {self.task_id} attempt:{self.attempt}>"


class Worker(models.Model):
    """A worker's proof of life: others watch `counter`, each by its own clock."""

    owner = models.CharField("owner", max_length=32, primary_key=True)
    name = models.CharField("name", max_length=255)
    pid = models.IntegerField("pid")
    queues = models.TextField("queues")
    concurrency = models.IntegerField("children")
    lease = models.FloatField("lease in seconds")
    counter = models.BigIntegerField("counter", default=0)
    idle = models.BooleanField("idle", default=False)
    started_at = models.DateTimeField("started at", default=timezone.now)
    seen_at = models.DateTimeField("seen at", default=timezone.now)

    class Meta:
        db_table = "celery_worker"
        verbose_name = "worker"

    def __str__(self) -> str:
        return f"<Worker: {self.name} pid:{self.pid}>"


class PeriodicTaskMeta(models.Model):
    """What was last sent of a periodic task. It is in the database of messages, and changes together with these."""

    name = models.CharField("task name", max_length=255, unique=True)
    last_run_at = models.DateTimeField("last due moment", null=True, blank=True)
    total_run_count = models.PositiveBigIntegerField("due moments so far", default=0)
    last_task_id = models.CharField("task id of the last message", max_length=255, default="", blank=True)

    objects = PeriodicTaskManager()

    class Meta:
        db_table = "celery_periodictaskmeta"
        verbose_name = "periodic task"

    def __str__(self) -> str:
        last = self.last_run_at if self.total_run_count else None  # until then, when it was first seen
        return f"<PeriodicTask: {self.name} [last-run:{last}, total-run:{self.total_run_count}]>"

    @property
    def task(self) -> Any:
        """Return the task of this name. Raises NotRegistered."""
        return tasks[self.name]

    def delay(self) -> Any:
        """Send the task now, beside its schedule, and return its AsyncResult."""
        return self.task.delay()


class Throughput(models.Model):
    """What one worker has stored in an interval, mostly a minute. An interval in which nothing happened has no row."""

    at = models.DateTimeField("end of the interval")
    worker = models.CharField("worker", max_length=255)
    done = models.PositiveBigIntegerField("done", default=0)
    failed = models.PositiveBigIntegerField("failed", default=0)
    retried = models.PositiveBigIntegerField("retried", default=0)
    runtime = models.FloatField("runtime in seconds, summed", default=0.0)

    objects = BesideMessagesManager()

    class Meta:
        db_table = "celery_throughput"
        verbose_name = "throughput"
        verbose_name_plural = "throughput"
        indexes = (models.Index(fields=["at"], name="celery_throughput_at"),)

    def __str__(self) -> str:
        return f"<Throughput: {self.worker} {self.at} done:{self.done} failed:{self.failed} retried:{self.retried}>"


class QueueDepth(models.Model):
    """How much waited in a queue: one sample a minute, whichever worker took it."""

    at = models.DateTimeField("minute")
    queue = models.CharField("queue", max_length=255)
    depth = models.BigIntegerField("messages that are ready")
    oldest = models.FloatField("age of the oldest in seconds", null=True, blank=True)

    objects = BesideMessagesManager()

    class Meta:
        db_table = "celery_queuedepth"
        verbose_name = "queue depth"
        constraints = (models.UniqueConstraint(fields=["at", "queue"], name="celery_queuedepth_minute"),)

    def __str__(self) -> str:
        return f"<QueueDepth: {self.queue} {self.at} depth:{self.depth}>"


class Overview(Worker):
    """No rows of its own: the overview page of the admin hangs here, and so has a permission of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = "overview"
        verbose_name_plural = "overview"

    def __str__(self) -> str:
        return "<Overview>"
