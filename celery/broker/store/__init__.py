"""The table ``celery_message``, found by its database alias whatever the broker: queue, schedule, outbox, the dead.

One file a dialect; `base` holds what they share.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from celery.broker.store.base import Store

DIALECTS: Final = {
    "mysql": "celery.broker.store.mysql.MysqlStore",  # MariaDB too: Django calls it so
    "postgresql": "celery.broker.store.postgresql.PostgresqlStore",
    "sqlite": "celery.broker.store.sqlite.SqliteStore",
}


def default_alias() -> str:
    """Return the alias that Django's routers choose for messages."""
    return router.db_for_write(apps.get_model("celery", "Message"))


def is_in_transaction(alias: str) -> bool:
    """Tell whether what this thread writes on `alias` waits for a commit."""
    connection = connections[alias]
    commits_itself = connection.autocommit if connection.connection else connection.settings_dict["AUTOCOMMIT"]
    return bool(connection.in_atomic_block or not commits_itself)


def has_hooks(alias: str) -> bool:
    """Tell whether this thread is inside `transaction.atomic`: only there does Django call us after the commit."""
    return bool(connections[alias].in_atomic_block)


@cache
def of(alias: str) -> "Store":
    """Return the store of the database `alias`. Raises ImproperlyConfigured for a database that has none."""
    vendor = connections[alias].vendor
    if vendor not in DIALECTS:
        text = f"DATABASES[{alias!r}] is {vendor}; celery keeps messages in one of: {', '.join(DIALECTS)}"
        raise ImproperlyConfigured(text)
    found: Any = import_string(DIALECTS[vendor])
    return found(alias)  # type: ignore[no-any-return]
