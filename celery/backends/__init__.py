"""Finds the result backend by its name in the settings, at the first use."""

from functools import cache
from typing import Any, Final

from django.utils.module_loading import import_string

from celery import conf
from celery.backends.base import BaseBackend

NAMES: Final = {"database": "celery.backends.database.Backend"}


def get_backend_cls(name: str) -> type[BaseBackend]:
    """Return the backend class called `name`: one of ours, or the dotted path of a class, or of its module."""
    path = NAMES.get(name, name)
    found: Any = import_string(path if path.rpartition(".")[2][:1].isupper() else f"{path}.Backend")
    return found  # type: ignore[no-any-return]


def get_default_backend_cls() -> type[BaseBackend]:
    """Return the class that CELERY_BACKEND names."""
    return get_backend_cls(conf.BACKEND)


@cache
def _instance(name: str) -> BaseBackend:
    return get_backend_cls(name)()


def default() -> BaseBackend:
    """Return the backend that CELERY_BACKEND names."""
    return _instance(conf.BACKEND)


def __getattr__(name: str) -> Any:
    """Resolve the classic lazy names at use, so that importing this module needs no settings."""
    if name == "default_backend":
        return default()
    if name == "DefaultBackend":
        return get_default_backend_cls()
    text = f"module 'celery.backends' has no attribute {name!r}"
    raise AttributeError(text)
