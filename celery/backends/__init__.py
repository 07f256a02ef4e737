"""Finds the result backend by its name in the settings, at the first use."""

import functools
from typing import Any, Final

from django.utils.module_loading import import_string

from celery import conf
from celery.backends.base import BaseBackend

NAMES: Final = {
    "database": "celery.backends.database.Backend",
    "cache": "celery.backends.cache.Backend",
    "tyrant": "celery.backends.tyrant.Backend",
}


def get_backend_cls(name: str) -> type[BaseBackend]:
    """Return the backend class called `name`, or raise ImportError.

    A name is ``"database"``, ``"cache"``, ``"tyrant"``, the dotted path of a class, or that of a module whose class is
    called ``Backend``.
    """
    path = NAMES.get(name, name)
    found: Any = import_string(path if path.rpartition(".")[2][:1].isupper() else f"{path}.Backend")
    return found  # type: ignore[no-any-return]


def get_default_backend_cls() -> type[BaseBackend]:
    """Return the class that CELERY_BACKEND names."""
    return get_backend_cls(conf.BACKEND)


def get_default_periodicstatus_backend_cls() -> type[BaseBackend]:
    """Return the class that CELERY_PERIODIC_STATUS_BACKEND names."""
    return get_backend_cls(conf.PERIODIC_STATUS_BACKEND)


@functools.cache
def _instance(name: str) -> BaseBackend:
    return get_backend_cls(name)()


def default() -> BaseBackend:
    """Return the backend that CELERY_BACKEND names."""
    return _instance(conf.BACKEND)


def default_periodic_status() -> BaseBackend:
    """Return the backend that CELERY_PERIODIC_STATUS_BACKEND names."""
    return _instance(conf.PERIODIC_STATUS_BACKEND)


#: The classic names, resolved at use, so that importing this module needs no settings.
_LAZY: Final = {
    "default_backend": default,
    "DefaultBackend": get_default_backend_cls,
    "default_periodic_status_backend": default_periodic_status,
    "DefaultPeriodicStatusBackend": get_default_periodicstatus_backend_cls,
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return _LAZY[name]()
    text = f"module 'celery.backends' has no attribute {name!r}"
    raise AttributeError(text)
