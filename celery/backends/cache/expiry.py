"""Deleting what has expired from the caches of Django that do that only when somebody asks for the entry."""

import os
from collections.abc import Iterator
from typing import Any, Final

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.db import connections, router
from django.utils.timezone import now

PAGE: Final = 1000


def delete_expired(cache: BaseCache) -> int:
    """Delete the expired entries of a cache in files or in a table, in pages; return how many."""
    if isinstance(cache, FileBasedCache):
        return sum(_delete_if_expired(cache, path) for path in _files(cache))
    if isinstance(cache, BaseDatabaseCache):
        return sum(_delete_pages(cache))
    return 0


def _files(cache: Any) -> Iterator[str]:
    with os.scandir(cache._dir) as entries:  # noqa: SLF001 - Django has no other way to them
        yield from (entry.path for entry in entries if entry.name.endswith(cache.cache_suffix))


def _delete_if_expired(cache: Any, path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as Django does it
            return bool(cache._is_expired(file))  # noqa: SLF001 - Django's own rule, which also deletes
    except Exception:  # noqa: BLE001 - somebody else was quicker, or nobody can read it: no reason to stop
        return False


def _delete_pages(cache: Any) -> Iterator[int]:
    """Delete the rows whose time is over, page after page, each in a transaction of its own."""
    connection = connections[router.db_for_write(cache.cache_model_class)]
    quote = connection.ops.quote_name
    table, key, expires = map(quote, (cache.cache_model_class._meta.db_table, "cache_key", "expires"))  # noqa: SLF001
    moment = connection.ops.adapt_datetimefield_value(now().replace(microsecond=0))
    while True:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {key} FROM {table} WHERE {expires} < %s LIMIT {PAGE}", [moment])
            keys = [found for (found,) in cursor.fetchall()]
            if not keys:
                return
            among = ", ".join(["%s"] * len(keys))
            cursor.execute(f"DELETE FROM {table} WHERE {key} IN ({among}) AND {expires} < %s", [*keys, moment])
            yield cursor.rowcount
