"""celery/backends: backends by name, and what the port does for a driver that leaves it out."""

import pytest
from pytest_django import Settings

from celery import backends
from celery.backends.cache import Backend as CacheBackend
from celery.backends.database import Backend as DatabaseBackend
from tests.memory_backend import MemoryBackend

# By name


@pytest.mark.parametrize("name", ["tests.memory_backend.MemoryBackend", "cache", "celery.backends.cache"])
def test_a_backend_is_one_of_ours_or_a_class_or_the_class_of_a_module(name: str) -> None:
    expected = MemoryBackend if name.endswith("MemoryBackend") else CacheBackend

    assert backends.get_backend_cls(name) is expected


def test_each_setting_names_its_class(settings: Settings) -> None:
    # given
    settings.CELERY_BACKEND = "cache"
    settings.CELERY_PERIODIC_STATUS_BACKEND = "database"

    # then
    assert backends.get_default_backend_cls() is CacheBackend
    assert backends.get_default_periodicstatus_backend_cls() is DatabaseBackend


def test_the_classic_names_follow_the_settings(settings: Settings) -> None:
    for name, cls in {"cache": CacheBackend, "database": DatabaseBackend}.items():
        settings.CELERY_BACKEND = name
        assert backends.DefaultBackend is cls
        assert type(backends.default_backend) is cls


def test_a_name_that_is_none_is_refused_as_any_module_does() -> None:
    with pytest.raises(AttributeError, match=r"^module 'celery\.backends' has no attribute 'default_backends'$"):
        _ = backends.default_backends


# What a driver may leave out


def test_a_driver_needs_no_refusal_and_no_cleanup() -> None:
    class Plain(MemoryBackend):
        refusal = MemoryBackend.__base__.refusal  # type: ignore[union-attr]

    assert Plain().refusal() is None
    assert Plain().cleanup() == 0
