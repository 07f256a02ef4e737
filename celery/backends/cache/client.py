"""The clients of the cache that holds results: one a thread, made from CACHES, apart from Django's own.

Django's are not used because a client of pymemcache that has failed answers for a second, and then for a minute, as if
the cache were empty, whoever's failure it was. Ours is thrown away when it has raised. It is also made to be patient
for seconds only, to raise what other uses of the cache may prefer to swallow, and to ask no replica, which lags.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - the names of Django
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.utils.module_loading import import_string

from celery import conf

PASSWORD: Final = re.compile(r"://\S*@")
PATIENCE: Final = 5.0
#: Below so many entries, a cache that counts them drops results of a busy day.
FEW_ENTRIES: Final = 10_000

#: OPTIONS that hold unless CACHES says otherwise, and those that hold whatever it says.
DEFAULTS: Final[dict[type, dict[str, Any]]] = {
    PyMemcacheCache: {"connect_timeout": PATIENCE, "timeout": PATIENCE},
    RedisCache: {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE},
}
FORCED: Final[dict[type, dict[str, Any]]] = {PyMemcacheCache: {"ignore_exc": False, "default_noreply": False}}


# -- what the settings say


def trouble(alias: str) -> str | None:
    """Return why the entry `alias` of CACHES cannot hold results, or None. Opens no connection."""
    if alias not in caches.settings:
        return f"is not among CACHES, which has {', '.join(map(repr, sorted(caches.settings)))}."
    try:
        cls = _cls(alias)
    except Exception as error:  # noqa: BLE001 - importing it runs any code
        return f"cannot be used: {type(error).__name__}: {error}"
    if issubclass(cls, LocMemCache):
        return "is a cache in the memory of one process: no other one could see the results of a worker."
    if issubclass(cls, DummyCache):
        return "is the dummy cache, which keeps nothing."
    return None


def check() -> Iterator[CheckMessage]:
    """Say what the system checks should say of the cache of results."""
    alias = conf.CACHE_ALIAS
    if not isinstance(alias, str):
        return  # E002
    if found := trouble(alias):
        hint = "Name an entry of CACHES in CELERY_CACHE_ALIAS that all processes share, such as memcached or Redis."
        yield Error(f"CELERY_CACHE_ALIAS = {alias!r} {found}", hint=hint, id="celery.E008")
    elif (entries := _max_entries(alias)) is not None and entries <= FEW_ENTRIES:
        yield Warning(
            f"CACHES[{alias!r}], which holds the results, drops some of them whenever it has {entries} entries.",
            hint=f"Write CACHES[{alias!r}]['OPTIONS'] = {{'MAX_ENTRIES': 1_000_000}}, or more than there are results.",
            id="celery.W004",
        )


def shown(alias: str) -> str:
    """Return the cache as people know it: alias, kind and place, without the password of a URL."""
    params = caches.settings[alias]
    place = f" at {params['LOCATION']}" if params.get("LOCATION") else ""
    return PASSWORD.sub("://***@", f"{alias!r} ({params['BACKEND'].rpartition('.')[2]}{place})")


def _cls(alias: str) -> type[BaseCache]:
    found: type[BaseCache] = import_string(caches.settings[alias]["BACKEND"])
    return found


def _max_entries(alias: str) -> int | None:
    """Return the bound of a cache that counts its entries, as Django reads it; None for the others."""
    if not issubclass(_cls(alias), FileBasedCache | BaseDatabaseCache):
        return None
    params = caches.settings[alias]
    with suppress(TypeError, ValueError):
        return int(params.get("max_entries", params.get("OPTIONS", {}).get("MAX_ENTRIES", 300)))
    return 300


# -- the clients


class Clients(threading.local):
    """The client of this thread, made at its first use, and anew in a forked process or for other settings."""

    def __init__(self) -> None:
        self._cache: BaseCache | None = None
        self._made_for: tuple[int, str, Any] = (0, "", None)

    def get(self) -> BaseCache:
        """Return the client for the cache of results. Raises ImproperlyConfigured."""
        alias = conf.CACHE_ALIAS
        pid, settings = os.getpid(), caches.settings.get(alias)
        if self._cache is None or self._made_for[:2] != (pid, alias) or self._made_for[2] is not settings:
            self.drop()
            self._cache, self._made_for = _made(alias), (pid, alias, settings)
        return self._cache

    def drop(self, **_: Any) -> None:
        """Close the client: the next one begins without a memory of failures. In a fork that harms no other."""
        cache, self._cache = self._cache, None
        if cache is not None:
            with suppress(Exception):
                cache.close()


def _made(alias: str) -> BaseCache:
    if found := trouble(alias):
        text = f"results cannot be kept: CELERY_CACHE_ALIAS = {alias!r} {found}"
        raise ImproperlyConfigured(text)
    cls, params = _cls(alias), dict(caches.settings[alias])
    del params["BACKEND"]
    location = params.pop("LOCATION", "")
    if issubclass(cls, RedisCache):
        location = (re.split("[;,]", location) if isinstance(location, str) else location)[:1]
    options = {**_of(DEFAULTS, cls), **(params.get("OPTIONS") or {}), **_of(FORCED, cls)}
    made: Any = cls
    return made(location, {**params, "OPTIONS": options})  # type: ignore[no-any-return]


def _of(table: Mapping[type, Mapping[str, Any]], cls: type) -> Mapping[str, Any]:
    return next((options for kind, options in table.items() if issubclass(cls, kind)), {})


#: As with Django's own clients, the connection of a thread that serves requests ends with its request.
clients: Final = Clients()
request_finished.connect(clients.drop, dispatch_uid="celery.backends.cache.client")
