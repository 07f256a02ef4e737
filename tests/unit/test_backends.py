"""celery/backends: backends by name, and what the port does for a driver that leaves it out."""

from typing import Any

import pytest
from pytest_django import Settings

from celery import backends, states
from celery.backends.base import Result
from celery.backends.cache import Backend as CacheBackend
from celery.backends.database import Backend as DatabaseBackend
from celery.exceptions import UnreadableResult
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


# What is stored by others

#: A UUID that has no text, since its number is a decimal.
BROKEN = '{"__type__": "uuid", "__value__": {"int": {"__type__": "decimal", "__value__": "5"}}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "9" * 5000,
        '{"__type__": "no such type", "__value__": 1}',
        '{"__type__": "decimal", "__value__": "x"}',
        None,
        b"\xff",
        f'{{"__type__": {BROKEN}, "__value__": 1}}',
    ],
    ids=lambda text: repr(text)[:40],
)
def test_a_value_that_nobody_can_read_is_told_by_one_exception(text: Any) -> None:
    # given
    stored = Result(task_id="0b8a", state=states.DONE, result=text)

    # then
    with pytest.raises(UnreadableResult, match="the stored value of task 0b8a cannot be read"):
        MemoryBackend().to_python(stored)
