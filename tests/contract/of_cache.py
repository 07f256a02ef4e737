"""The caches that hold results in contracts: the fixtures ``<name>_backend`` of `test_backends`."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import Settings

from celery.backends.base import BaseBackend
from celery.backends.cache import Backend
from celery.backends.cache.client import clients

ALIAS = "results"
DJANGO = "django.core.cache.backends"
TABLE = "results_in_a_cache"


def use_cache(settings: Settings, **entry: Any) -> BaseBackend:
    """Let results live in a cache of these settings; keys of other tests are not seen."""
    options = {"KEY_PREFIX": uuid.uuid4().hex, **entry}
    settings.CACHES = {"default": {"BACKEND": f"{DJANGO}.locmem.LocMemCache"}, ALIAS: options}
    settings.CELERY_CACHE_ALIAS = ALIAS
    settings.CELERY_BACKEND = "cache"
    return Backend()


@pytest.fixture
def cached(settings: Settings) -> Iterator[Callable[..., BaseBackend]]:
    """Make backends on caches, and close their connections."""
    yield lambda **entry: use_cache(settings, **entry)
    clients.drop()


@pytest.fixture
def memcached_backend(cached: Callable[..., BaseBackend], memcached_address: str) -> BaseBackend:
    """Results in memcached, by pymemcache."""
    return cached(BACKEND=f"{DJANGO}.memcached.PyMemcacheCache", LOCATION=memcached_address)


@pytest.fixture
def redis_cache_backend(cached: Callable[..., BaseBackend], redis_url: str) -> BaseBackend:
    """Results in Redis."""
    return cached(BACKEND=f"{DJANGO}.redis.RedisCache", LOCATION=f"{redis_url}/1")


@pytest.fixture
def file_cache_backend(cached: Callable[..., BaseBackend], tmp_path: Path) -> BaseBackend:
    """Results in files."""
    return cached(
        BACKEND=f"{DJANGO}.filebased.FileBasedCache", LOCATION=str(tmp_path), OPTIONS={"MAX_ENTRIES": 100_000}
    )


@pytest.fixture
def table_cache_backend(cached: Callable[..., BaseBackend], on_database: Callable[[str], str]) -> Iterator[BaseBackend]:
    """Results in a table of a cache."""
    alias = on_database("sqlite")
    made = cached(BACKEND=f"{DJANGO}.db.DatabaseCache", LOCATION=TABLE, OPTIONS={"MAX_ENTRIES": 100_000})
    call_command("createcachetable", TABLE, database=alias, verbosity=0)
    yield made
    with connections[alias].cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
