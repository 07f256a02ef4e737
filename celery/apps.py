"""The Django application."""

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from celery import checks, conf, discovery  # noqa: F401 - importing them registers the checks

SQLITE_TIMEOUT = 20.0


class CeleryConfig(AppConfig):
    """Finds the tasks of the project, registers the system checks and tunes SQLite connections."""

    name = "celery"
    verbose_name = "Task queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import every application's ``tasks`` module, so that its tasks are registered."""
        connection_created.connect(tune_sqlite, dispatch_uid="celery.tune_sqlite")
        discovery.autodiscover()


def tune_sqlite(connection: Any, **_: Any) -> None:
    """Make a plain SQLite connection fit for several processes, unless its OPTIONS speak for themselves.

    Without IMMEDIATE, a transaction that reads and then writes fails with "database is locked" at once beside a busy
    worker, whatever the timeout (SQLITE_BUSY_SNAPSHOT).
    """
    if connection.vendor != "sqlite" or not conf.SQLITE_TUNING:
        return
    options = connection.settings_dict.get("OPTIONS", {})
    if "transaction_mode" not in options:
        connection.transaction_mode = "IMMEDIATE"
    if "timeout" not in options:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {int(SQLITE_TIMEOUT * 1000)}")
