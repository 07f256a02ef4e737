# mypy: ignore-errors
"""The Celery application."""

import os

from celery import Celery

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
if os.environ.get("BENCH_TUNED") == "1":
    # Without it, Celery closes the database connection after every task: a quarter of the speed.
    app.conf.CELERY_DB_REUSE_MAX = 1_000_000_000
app.autodiscover_tasks()
