"""What the backend of results in caches makes of caches that answer oddly. That it keeps the contract is told there."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.cache.backends.base import memcache_key_warnings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from celery import states
from celery.backends import cache as driver
from celery.backends.base import Result
from celery.backends.cache import Backend, key_of
from celery.backends.cache import expiry as cache_expiry
from celery.backends.cache.client import clients
from celery.backends.records import FIELDS, from_text, to_text
from celery.exceptions import CeleryError, ResultBackendUnreachable, UnencodableResult
from celery.worker.chore import ROW_ERRORS, TROUBLE
from tests.unit.odd_caches import Overtaken, Plain, Stale

DJANGO = "django.core.cache.backends"
ODD = "tests.unit.odd_caches"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def on_cache(settings: Settings) -> Iterator[Callable[..., Backend]]:
    """Make a backend on an empty cache of a kind."""

    def make(kind: str, **entry: Any) -> Backend:
        settings.CACHES = {"default": {"BACKEND": f"{DJANGO}.dummy.DummyCache"}, "results": {"BACKEND": kind, **entry}}
        settings.CELERY_CACHE_ALIAS = "results"
        settings.CELERY_BACKEND = "cache"
        return Backend()

    Plain.entries.clear()
    driver._tell_unreadable.cache_clear()
    yield make
    clients.drop()
    Overtaken.other.clear()


def done(task_id: str, value: Any = 1, **fields: Any) -> Result:
    return Result(task_id=task_id, state=states.DONE, result=json.dumps(value), date_done=NOW, **fields)


def calls_of(act: Callable[[], object]) -> list[str]:
    Plain.calls.clear()
    act()
    return list(Plain.calls)


# -- as few round trips as it takes


def test_a_group_costs_three_round_trips(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Plain")

    assert calls_of(lambda: backend.store([done(f"{n}") for n in range(500)])) == ["get_many", "set_many", "get_many"]
    assert calls_of(lambda: backend.fetch([f"{n}" for n in range(500)])) == ["get_many"]
    assert calls_of(lambda: backend.fetch([f"{n}" for n in range(501)])) == ["get_many"] * 2


def test_what_is_stored_already_as_it_is_has_won_without_being_written(on_cache: Callable[..., Backend]) -> None:
    """A worker repeats a group of which it cannot know what has arrived."""
    backend = on_cache(f"{ODD}.Plain")
    retry = replace(done("x"), state=states.RETRY)
    backend.store([retry])

    assert calls_of(lambda: backend.store([])) == []
    assert calls_of(lambda: backend.store([retry])) == ["get_many"]
    assert backend.store([retry]) == {"x"}
    assert backend.store([replace(retry, worker="another")]) == set()


def test_a_connection_that_is_gone_costs_a_look_at_the_server_and_no_look_at_each_key(
    on_cache: Callable[..., Backend],
) -> None:
    backend = on_cache(f"{ODD}.Stale")
    group = [done(f"{n}") for n in range(100)]
    backend.store(group)
    Stale.failures.append(ConnectionResetError(104, "Connection reset by peer"))

    assert calls_of(lambda: backend.fetch([one.task_id for one in group])) == ["get_many", "set", "get", "get_many"]


# -- what is not kept


def test_what_a_silent_cache_does_not_keep_is_trouble(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Silent")

    with pytest.raises(ResultBackendUnreachable, match=r"'results' \(Silent\) .* took a value and does not have it"):
        backend.store([done("x")])


def test_what_a_cache_raises_for_every_value_is_trouble(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.ReadOnly")

    with pytest.raises(ResultBackendUnreachable, match="LookupError: READONLY You can't write"):
        backend.store([done("x")])


def test_a_lost_connection_is_no_fault_of_the_result_even_if_everything_else_works(
    on_cache: Callable[..., Backend],
) -> None:
    backend = on_cache(f"{ODD}.Flapping")

    with pytest.raises(ResultBackendUnreachable, match="Connection reset by peer"):
        backend.store([done("x")])


@pytest.mark.parametrize("stored", [[], [done("large", "old")]], ids=["new", "replaced"])
def test_one_result_that_is_not_kept_is_the_fault_of_its_row(
    on_cache: Callable[..., Backend], stored: list[Result]
) -> None:
    backend = on_cache(f"{ODD}.Small")
    backend.store(stored)

    with pytest.raises(UnencodableResult, match=r"does not keep its 2,\d+ bytes\. memcached takes 1 MB"):
        backend.store([done("small"), done("large", "x" * 2000, attempt=2)])

    assert backend.store([done("small")]) == {"small"}
    assert backend.fetch(["large"]) == {one.task_id: one for one in stored}


def test_the_worker_takes_each_failure_for_what_it_is() -> None:
    assert issubclass(UnencodableResult, ROW_ERRORS)
    assert issubclass(ResultBackendUnreachable, TROUBLE)
    assert issubclass(ResultBackendUnreachable, CeleryError)
    assert not issubclass(ResultBackendUnreachable, ROW_ERRORS)


def test_what_another_writer_has_overtaken_has_not_won(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Overtaken")
    other = done("x", "theirs", worker="another")
    Overtaken.other[key_of("x")] = to_text(other)

    assert backend.store([done("x", "ours"), done("y")]) == {"y"}

    assert backend.fetch(["x"]) == {"x": other}


# -- what is not ours


@pytest.mark.parametrize(
    "found", [None, 7, b"\xff", "", "{", "[]", [1], {"a": 1}, "null", to_text(done("another")), "[" * 100_000], ids=repr
)
def test_what_is_no_result_of_this_id_counts_as_none_and_is_overwritten(
    on_cache: Callable[..., Backend], caplog: pytest.LogCaptureFixture, found: Any
) -> None:
    backend = on_cache(f"{ODD}.Plain")
    Plain.entries[key_of("x")] = found

    for _ in range(3):
        assert backend.fetch(["x"]) == {}
    assert [record.getMessage()[:46] for record in caplog.records] == [
        "What is in the cache under 'celery.result.x' is"[:46]
    ]
    assert backend.store([done("x")]) == {"x"}
    assert backend.fetch(["x"]) == {"x": done("x")}


def test_an_entry_that_cannot_even_be_read_harms_no_other(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Broken")
    backend.store([done("x"), done("y")])
    Plain.entries[key_of("x")] = "!"

    assert backend.fetch(["x", "y"]).keys() == {"y"}
    assert backend.store([done("x"), done("z")]) == {"x", "z"}
    assert backend.fetch(["x", "y", "z"]).keys() == {"x", "y", "z"}


def test_bytes_are_read_as_text(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Plain")
    Plain.entries[key_of("x")] = to_text(done("x")).encode()

    assert backend.fetch(["x"]) == {"x": done("x")}


# -- records

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
results = st.builds(
    Result,
    task_id=st.text(st.characters()),
    state=st.sampled_from(sorted(states.ALL_STATES)),
    result=st.text(st.characters()),
    traceback=st.text(st.characters()),
    attempt=st.integers(),
    name=st.text(),
    worker=st.text(),
    runtime=st.none() | st.floats(allow_nan=False),
    date_done=st.datetimes(timezones=st.just(UTC)),
)


@given(results)
def test_a_record_is_read_as_it_was_written(result: Result) -> None:
    text = to_text(result)

    assert text.isascii()
    assert text.isprintable()
    assert from_text(text, result.task_id) == result
    assert from_text(text, f"{result.task_id}x") is None


@given(st.sampled_from(FIELDS), anything)
def test_a_record_with_a_wrong_field_is_none_or_sound(name: str, value: Any) -> None:
    found = from_text(json.dumps({**json.loads(to_text(done("x"))), name: value}), "x")

    assert found is None or to_text(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("attempt", True), ("attempt", "1"), ("attempt", None), ("state", "?"), ("result", None), ("runtime", "1")],
        *[("runtime", False), ("date_done", "2026-11-22"), ("date_done", 5), ("traceback", 1), ("worker", [])],
    ],
)
def test_a_field_of_another_type_makes_a_record_none(name: str, value: Any) -> None:
    assert from_text(json.dumps({**json.loads(to_text(done("x"))), name: value}), "x") is None


# -- keys


@given(st.text(min_size=1, max_size=255))
def test_a_key_is_one_that_memcached_takes_with_room_for_a_prefix(task_id: str) -> None:
    key = key_of(task_id)

    assert not list(memcache_key_warnings(f"{'p' * 120}:1:{key}"))
    assert key.isascii()


def test_the_id_of_a_task_of_ours_can_be_seen_in_its_key() -> None:
    assert key_of("0b5c1c0e-9f3a-4a0e-8f58-3a6ad0a0f1d2") == "celery.result.0b5c1c0e-9f3a-4a0e-8f58-3a6ad0a0f1d2"


def test_no_id_can_be_made_that_looks_like_the_hash_of_another() -> None:
    hashed = key_of("two words")

    assert hashed.startswith("celery.result#")
    assert key_of(hashed.removeprefix("celery.result")) != hashed


# -- caches that cannot hold results


REFUSED = [
    (f"{DJANGO}.locmem.LocMemCache", "is a cache in the memory of one process"),
    (f"{ODD}.InMemory", "is a cache in the memory of one process"),
    (f"{DJANGO}.dummy.DummyCache", "is the dummy cache, which keeps nothing"),
    ("nowhere.Cache", "cannot be used: ModuleNotFoundError: No module named 'nowhere'"),
]


@pytest.mark.parametrize(("kind", "reason"), REFUSED)
def test_a_cache_that_no_other_process_sees_is_refused_by_the_check_and_at_first_use(
    on_cache: Callable[..., Backend], kind: str, reason: str
) -> None:
    backend = on_cache(kind)

    (message,) = checks.run_checks(tags=["celery"])

    assert (message.id, message.level) == ("celery.E008", checks.ERROR)
    assert message.msg.startswith(f"CELERY_CACHE_ALIAS = 'results' {reason}")
    assert "memcached or Redis" in str(message.hint)
    with pytest.raises(ImproperlyConfigured, match=reason):
        backend.store([done("x")])
    with pytest.raises(ImproperlyConfigured, match=reason):
        backend.get_status("x")


def test_an_unknown_alias_is_told_with_the_known_ones(on_cache: Callable[..., Backend], settings: Settings) -> None:
    backend = on_cache(f"{ODD}.Plain")
    settings.CELERY_CACHE_ALIAS = "result"

    (message,) = checks.run_checks(tags=["celery"])

    assert message.msg == "CELERY_CACHE_ALIAS = 'result' is not among CACHES, which has 'default', 'results'."
    with pytest.raises(ImproperlyConfigured, match="is not among CACHES"):
        backend.fetch(["x"])


@pytest.mark.parametrize("kind", ["filebased.FileBasedCache", "db.DatabaseCache"])
@pytest.mark.parametrize(
    ("entry", "warns"),
    [
        ({}, True),
        ({"OPTIONS": {"MAX_ENTRIES": 10_000}}, True),
        ({"OPTIONS": {"MAX_ENTRIES": "many"}}, True),
        ({"OPTIONS": {"MAX_ENTRIES": 10_001}}, False),
        ({"OPTIONS": {"MAX_ENTRIES": "20000"}}, False),
    ],
)
def test_a_cache_of_few_entries_is_warned_of(
    on_cache: Callable[..., Backend], tmp_path: Path, kind: str, entry: dict[str, Any], *, warns: bool
) -> None:
    place = tmp_path / "cache"
    on_cache(f"{DJANGO}.{kind}", LOCATION=str(place), **entry)

    found = checks.run_checks(tags=["celery"])

    assert [message.id for message in found] == (["celery.W004"] if warns else [])
    assert not place.exists()


def test_caches_that_count_nothing_are_not_warned_of(on_cache: Callable[..., Backend]) -> None:
    for kind in ("memcached.PyMemcacheCache", "redis.RedisCache"):
        on_cache(f"{DJANGO}.{kind}", LOCATION="redis://nowhere.invalid")

        assert checks.run_checks(tags=["celery"]) == []


def test_a_password_is_not_told(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{DJANGO}.redis.RedisCache", LOCATION="redis://user:s3cret@127.0.0.1:1/0")

    with pytest.raises(ResultBackendUnreachable) as caught:
        backend.fetch(["x"])

    assert "redis://***@127.0.0.1:1/0" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_other_settings_are_seen_at_once(on_cache: Callable[..., Backend]) -> None:
    backend = on_cache(f"{ODD}.Plain")
    backend.store([done("x")])

    on_cache(f"{DJANGO}.dummy.DummyCache")

    with pytest.raises(ImproperlyConfigured):
        backend.fetch(["x"])


# -- what has expired


def test_expired_files_are_deleted_and_counted(
    on_cache: Callable[..., Backend], tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    backend = on_cache(f"{DJANGO}.filebased.FileBasedCache", LOCATION=str(tmp_path), OPTIONS={"MAX_ENTRIES": 1000})
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(hours=1)
    backend.store([done(f"old {number}") for number in range(5)])
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(hours=3)
    backend.store([done("new")])
    (tmp_path / "broken.djcache").write_bytes(b"\x80")
    (tmp_path / "of-others.txt").touch()

    # when
    now = time.time()
    monkeypatch.setattr("django.core.cache.backends.filebased.time.time", lambda: now + 2 * 3600)

    # then
    assert backend.cleanup() == 5
    assert len(list(tmp_path.glob("*.djcache"))) == 2
    assert backend.fetch(["old 1", "new"]).keys() == {"new"}
    assert backend.cleanup() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("use_tz", [True, False])
def test_expired_rows_are_deleted_in_pages_and_counted(
    on_cache: Callable[..., Backend], settings: Settings, monkeypatch: pytest.MonkeyPatch, *, use_tz: bool
) -> None:
    # given
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "Asia/Tokyo"
    backend = on_cache(f"{DJANGO}.db.DatabaseCache", LOCATION="expiring", OPTIONS={"MAX_ENTRIES": 1000})
    call_command("createcachetable", verbosity=0)
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(hours=1)
    backend.store([done(f"old {number}") for number in range(5)])
    settings.CELERY_TASK_RESULT_EXPIRES = timedelta(hours=3)
    backend.store([done("new")])
    assert backend.cleanup() == 0

    # when
    monkeypatch.setattr(cache_expiry, "PAGE", 2)
    monkeypatch.setattr(cache_expiry, "now", lambda: timezone.now() + timedelta(hours=2))

    # then
    assert backend.cleanup() == 5
    assert backend.fetch(["new"]).keys() == {"new"}
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM expiring")
        assert cursor.fetchone() == (1,)


def test_a_cache_that_forgets_by_itself_has_nothing_to_clean_up(on_cache: Callable[..., Backend]) -> None:
    assert on_cache(f"{ODD}.Plain").cleanup() == 0
