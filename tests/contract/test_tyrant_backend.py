"""Results in Tokyo Tyrant, beyond what every backend promises: expiry, the index, and servers that forbid things."""

import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import Error
from pytest_django import Settings

from celery import states
from celery.backends import tyrant
from celery.backends.base import Result
from celery.backends.tyrant import BUCKET, PURGED, RESULT, Backend, protocol
from celery.backends.tyrant.client import Client
from celery.backends.tyrant.protocol import Request, put
from celery.exceptions import ImproperlyConfigured, ResultBackendUnreachable, ResultBackendUnusable
from tests.tyrant.records import HASH, MEMORY, TABLE, Records
from tests.tyrant.stand_in import StandIn

DAY = 24 * 3600
#: A quarter past some minute.
NOW = 1_800_000_000 // 60 * 60 + 15.25


class Clock:
    """The clock of the backend."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(tyrant, "time", SimpleNamespace(time=made))
    return made


@pytest.fixture
def server(tyrant_server: StandIn) -> StandIn:
    return tyrant_server


@pytest.fixture
def backend(tyrant_backend: Backend) -> Backend:
    return tyrant_backend


@pytest.fixture
def rows(server: StandIn) -> dict[bytes, bytes]:
    return server.records.rows


def result(task_id: str, state: str = states.DONE, **fields: Any) -> Result:
    return Result(task_id=task_id, state=state, **fields)


def ids(*numbers: int) -> list[str]:
    return [f"id {number}" for number in numbers]


class TestMaking:
    @pytest.mark.parametrize("setting", ["TT_HOST", "TT_PORT"])
    def test_without_a_server_it_says_what_to_set(self, backend: Backend, settings: Settings, setting: str) -> None:
        setattr(settings, setting, None)

        with pytest.raises(ImproperlyConfigured, match="set TT_HOST and TT_PORT"):
            Backend()

    def test_a_server_may_be_given_instead(self, server: StandIn, settings: Settings) -> None:
        settings.TT_HOST = settings.TT_PORT = None
        backend = Backend(tyrant_host="127.0.0.1", tyrant_port=server.port)

        backend.mark_as_done("x", 42)

        assert backend.get_result("x") == 42

    def test_a_port_may_be_text(self, backend: Backend, server: StandIn, settings: Settings) -> None:
        settings.TT_PORT = str(server.port)

        assert Backend().get_server().call(put(b"a", b"1")) is True

    @pytest.mark.parametrize("port", ["abc", "", -1, 65536, "0", 10**30, "1978 ", "²", 1978.5, True])
    def test_a_port_that_is_none_is_an_error_of_the_checks_and_of_the_first_use(
        self, backend: Backend, settings: Settings, port: Any
    ) -> None:
        settings.TT_PORT = port

        (found,) = backend.check()

        assert isinstance(found, Error)
        assert (found.id, found.msg) == (
            "celery.E009",
            f"TT_PORT = {port!r} is not the number of a port, from 1 to 65535.",
        )
        with pytest.raises(ImproperlyConfigured, match="is not the number of a port"):
            backend.fetch(["x"])

    @pytest.mark.parametrize("host", [None, "", "  ", 127, b"localhost"])
    def test_a_host_that_is_none_is_an_error_of_the_checks(
        self, backend: Backend, settings: Settings, host: Any
    ) -> None:
        settings.TT_HOST = host

        assert [found.id for found in backend.check()] == ["celery.E009"]

    def test_what_is_in_order_is_not_mentioned_and_nothing_is_opened(self, backend: Backend, server: StandIn) -> None:
        assert backend.check() == []
        assert server.accepted == 0

    def test_a_changed_setting_counts_at_once(self, backend: Backend, settings: Settings) -> None:
        backend.mark_as_done("x", 1)

        with StandIn(HASH) as other:
            settings.TT_PORT = other.port
            assert backend.get_status("x") == states.PENDING
            backend.get_server().drop()

    def test_each_thread_has_a_connection_of_its_own(self, backend: Backend) -> None:
        with ThreadPoolExecutor(1) as other:
            its = other.submit(backend.get_server).result()

        assert backend.get_server() is backend.get_server()
        assert its is not backend.get_server()


class TestKeeping:
    def test_a_value_begins_with_the_second_of_its_expiry(
        self, backend: Backend, clock: Clock, settings: Settings, rows: dict[bytes, bytes]
    ) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=2)

        backend.store([result("x")])

        value = rows[RESULT + b"x"]
        assert int.from_bytes(value[:8]) == int(NOW) + 1 + 2 * DAY
        assert value[8:].startswith(b'{"task_id":"x",')

    def test_an_expired_result_is_missing_before_anything_is_purged(
        self, backend: Backend, clock: Clock, settings: Settings
    ) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = 60
        backend.store([result("x")])

        clock.now = NOW + 60
        assert backend.fetch(["x"]).keys() == {"x"}
        clock.now = NOW + 61
        assert backend.fetch(["x"]) == {}

    def test_an_expired_result_keeps_nothing_out(self, backend: Backend, clock: Clock, settings: Settings) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = 60
        backend.store([result("x", attempt=3)])
        clock.now = NOW + 61

        assert backend.store([result("x", attempt=1)]) == {"x"}

    def test_the_index_is_written_before_the_results(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[int] = []
        run = Client.run

        def watched(client: Client, requests: list[Request[Any]]) -> list[Any]:
            sent.extend(request.data[1] for request in requests)
            return run(client, requests)

        monkeypatch.setattr(Client, "run", watched)

        backend.store([result(task_id) for task_id in ids(1, 2, 3)])

        assert sent[-4:] == [0x12, 0x10, 0x10, 0x10]

    def test_a_group_is_one_entry_of_the_index(
        self, backend: Backend, clock: Clock, settings: Settings, rows: dict[bytes, bytes]
    ) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = 60
        backend.store([result("first")])  # on a new connection the index is tried first
        rows.clear()

        backend.store([result("x"), result("é" * 255)])

        (bucket,) = (key for key in rows if key.startswith(BUCKET))
        assert bucket == BUCKET + str((int(NOW) + 61) // 60).encode()
        assert rows[bucket] == b"\0\1x" + (510).to_bytes(2) + "é".encode() * 255

    def test_what_failed_half_way_is_whole_when_it_is_stored_again(
        self, backend: Backend, server: StandIn, rows: dict[bytes, bytes]
    ) -> None:
        group = [result(task_id) for task_id in ids(*range(100))]
        backend.store(group[:50])
        for key in [key for key in rows if key.startswith(BUCKET)]:
            del rows[key]

        assert backend.store(group) == {stored.task_id for stored in group}

        (bucket,) = (value for key, value in rows.items() if key.startswith(BUCKET))
        assert all(stored.task_id.encode() in bucket for stored in group)

    def test_where_nothing_wins_nothing_is_written(self, backend: Backend, server: StandIn) -> None:
        backend.store([result("x", attempt=2)])
        server.served.clear()

        assert backend.store([result("x", attempt=1)]) == set()

        assert server.served == {"mget": 1}

    @pytest.mark.parametrize("lifetime", [float("inf"), 1e300, timedelta.max, 10**30])
    def test_what_shall_never_expire_does_not(self, backend: Backend, settings: Settings, lifetime: Any) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = lifetime

        backend.mark_as_done("x", 42)

        assert backend.get_result("x") == 42

    def test_a_result_that_is_too_large_is_its_own_fault_and_nothing_is_sent(
        self, backend: Backend, server: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tyrant, "LARGEST", 1000)

        with pytest.raises(ValueError, match=r"a result of \d{4} bytes is too large: Tokyo Tyrant takes at most 1000"):
            backend.store([result("x"), result("y", result="1" * 1000)])

        assert server.accepted == 0

    def test_an_id_that_is_too_long_is_its_own_fault_and_nobody_has_a_result_of_it(self, backend: Backend) -> None:
        with pytest.raises(ValueError, match="is too long: 65535 bytes are the most"):
            backend.store([result("x" * 65536)])

        assert backend.fetch(["x" * 65536, "y"]) == {}
        assert backend.store([result("x" * 65535)]) == {"x" * 65535}

    @pytest.mark.parametrize(
        "value", [b"", b"short", bytes(8), b"\x7f" * 8, b"\x7f" * 8 + b"{", b"\x7f" * 8 + b'{"task_id":"x"}']
    )
    def test_what_is_no_result_counts_as_none_and_is_logged_once(
        self, backend: Backend, rows: dict[bytes, bytes], caplog: pytest.LogCaptureFixture, value: bytes
    ) -> None:
        tyrant._tell_unreadable.cache_clear()
        rows[RESULT + b"x"] = value

        assert [backend.fetch(["x"]) for _ in range(3)] == [{}, {}, {}]

        assert len(caplog.records) == (0 if value == bytes(8) else 1)
        assert backend.store([result("x")]) == {"x"}
        assert backend.fetch(["x"]).keys() == {"x"}


class TestTrouble:
    @pytest.mark.parametrize("name", ["putkeep", "putcat", "get", "mget"])
    def test_a_server_that_forbids_what_it_would_not_tell_is_found_before_anything_is_stored(
        self, backend: Backend, server: StandIn, rows: dict[bytes, bytes], name: str
    ) -> None:
        server.mask = frozenset({name})

        with pytest.raises(ResultBackendUnusable, match=r"allow the commands putkeep, putcat, get and mget \(-mask\)"):
            backend.store([result("x")])

        assert not [key for key in rows if key.startswith(RESULT)]

    def test_a_result_that_is_refused_is_not_taken_for_stored(self, backend: Backend, server: StandIn) -> None:
        server.mask = frozenset({"put"})

        with pytest.raises(ResultBackendUnreachable, match="refused to store a result"):
            backend.store([result("x")])

    def test_a_server_that_became_another_is_looked_at_again(self, backend: Backend, server: StandIn) -> None:
        backend.store([result("x")])
        server.mask = frozenset({"mget"})
        server.restart()

        with pytest.raises(ResultBackendUnusable):
            backend.store([result("y")])

    def test_a_server_that_is_away_is_unreachable_and_then_reachable_again(
        self, backend: Backend, server: StandIn
    ) -> None:
        backend.store([result("x")])
        server.stop()
        with pytest.raises(ResultBackendUnreachable, match="Is it running"):
            backend.fetch(["x"])
        with pytest.raises(ResultBackendUnreachable, match="Is it running"):
            backend.store([result("y")])
        server.start()

        assert backend.store([result("y")]) == {"y"}
        assert backend.fetch(["x", "y"]).keys() == {"x", "y"}

    def test_an_empty_server_after_a_restart_begins_its_index_anew(self, settings: Settings, clock: Clock) -> None:
        with StandIn(MEMORY) as server:
            backend = Backend("127.0.0.1", server.port)
            backend.store([result("x")])
            server.restart()

            backend.store([result("y")])

            assert server.records.rows[PURGED] == str(int(NOW) // 60).encode()
            backend.get_server().drop()

    @pytest.mark.parametrize("after", [1, 20, 63, 64, 65, 90, 150, 151])
    def test_a_server_in_memory_that_is_restarted_while_a_group_is_stored_has_all_of_it_and_its_index(
        self, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch, after: int
    ) -> None:
        with StandIn(MEMORY) as server:
            backend = Backend("127.0.0.1", server.port)
            backend.store([result("before")])
            group = [result(task_id) for task_id in ids(*range(150))]
            real_put = server.records.put
            count = 0

            def put_or_restart(key: bytes, value: bytes) -> bool:
                nonlocal count
                count += 1
                if count == after:
                    server.records = Records(MEMORY)
                    server.cut_after = 0
                return real_put(key, value)

            monkeypatch.setattr(server.records, "put", put_or_restart)

            assert len(backend.store(group)) == 150

            clock.now += 6 * DAY
            rows = server.records.rows
            assert len([key for key in rows if key.startswith(RESULT)]) == 150
            assert backend.cleanup() == 150
            backend.get_server().drop()

    def test_a_server_that_is_lost_again_and_again_while_results_are_stored_is_unreachable(
        self, backend: Backend, server: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend.store([result("before")])
        real_put = server.records.put

        turns = itertools.cycle([0, None])

        def put_and_cut(key: bytes, value: bytes) -> bool:
            if key == RESULT + b"id 99":
                server.cut_after = next(turns)
            return real_put(key, value)

        monkeypatch.setattr(server.records, "put", put_and_cut)

        with pytest.raises(ResultBackendUnreachable, match="was lost twice while results were stored"):
            backend.store([result(task_id) for task_id in ids(*range(100))])

    def test_a_table_is_refused(self, settings: Settings) -> None:
        with StandIn(TABLE) as server:
            with pytest.raises(ResultBackendUnusable, match="results would be lost"):
                Backend("127.0.0.1", server.port).store([result("x")])

            assert server.records.rows == {}


class TestCleanup:
    @pytest.fixture(autouse=True)
    def _a_minute(self, settings: Settings, clock: Clock) -> None:
        settings.CELERY_TASK_RESULT_EXPIRES = 60

    def test_expired_results_and_their_index_are_deleted_and_counted(
        self, backend: Backend, clock: Clock, rows: dict[bytes, bytes]
    ) -> None:
        backend.store([result(task_id) for task_id in ids(*range(1500))])
        clock.now += 3600
        backend.store([result("young")])

        assert backend.cleanup() == 1500

        assert {key for key in rows if key.startswith(RESULT)} == {RESULT + b"young"}
        assert len([key for key in rows if key.startswith(BUCKET)]) == 1
        assert backend.cleanup() == 0

    def test_a_minute_of_grace_is_left_to_clocks_that_differ(self, backend: Backend, clock: Clock) -> None:
        backend.store([result("x")])
        expired_in = (int(NOW) + 61) // 60

        clock.now = (expired_in + 2) * 60 - 0.5
        assert backend.cleanup() == 0
        clock.now = (expired_in + 2) * 60
        assert backend.cleanup() == 1

    def test_a_result_that_was_written_anew_stays_until_its_new_expiry(self, backend: Backend, clock: Clock) -> None:
        backend.store([result("x", states.RETRY, attempt=1)])
        clock.now += 50
        backend.store([result("x", attempt=2)])

        clock.now = NOW + 61 + 47
        assert backend.fetch(["x"]).keys() == {"x"}
        clock.now = (int(NOW) + 61) // 60 * 60 + 120
        purged = backend.cleanup()
        clock.now += 3600

        assert purged + backend.cleanup() == 1

    def test_what_is_not_ours_is_left_alone(self, backend: Backend, clock: Clock, rows: dict[bytes, bytes]) -> None:
        rows.update({b"other": b"1", b"celery": b"2", b"x:celery": b"3"})
        backend.store([result("x")])
        clock.now += 3600

        backend.cleanup()

        assert {b"other", b"celery", b"x:celery"} <= rows.keys()

    def test_an_empty_server_has_nothing_to_purge(self, backend: Backend) -> None:
        assert backend.cleanup() == 0

    @pytest.mark.parametrize("days", [3, 30, 300])
    def test_however_long_nobody_purged_nothing_is_forgotten(
        self, backend: Backend, clock: Clock, rows: dict[bytes, bytes], days: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tyrant, "MINUTE", 3600)  # fewer buckets to ask for
        monkeypatch.setattr(tyrant, "LOOK_BACK", 7 * 24)
        monkeypatch.setattr(tyrant, "FARTHEST", 366 * 24)
        backend.store([result("x")])
        clock.now += days * DAY

        assert backend.cleanup() == 1

        assert {key for key in rows if key.startswith((RESULT, BUCKET))} == set()

    def test_a_purge_begins_where_the_last_one_ended_and_a_week_before(
        self, backend: Backend, clock: Clock, server: StandIn, rows: dict[bytes, bytes]
    ) -> None:
        backend.store([result("x")])
        clock.now += 30 * DAY
        rows[PURGED] = str(int(clock.now) // 60 - 10).encode()
        server.served.clear()

        backend.cleanup()

        assert 7 * 24 * 60 <= server.served["vsiz"] <= 7 * 24 * 60 + 15
        assert rows[PURGED] == str(int(clock.now) // 60 - 2).encode()

    @pytest.mark.parametrize("mark", [b"", b"x", b"9" * 18, b"9" * 1000, b"-5", "²".encode()])
    def test_a_mark_that_cannot_be_one_is_the_present(
        self, backend: Backend, clock: Clock, rows: dict[bytes, bytes], mark: bytes
    ) -> None:
        backend.store([result("x")])
        clock.now += 3600
        rows[PURGED] = mark

        assert backend.cleanup() == 1

    def test_a_mark_of_long_ago_does_not_keep_anybody_for_years(
        self, backend: Backend, rows: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tyrant, "FARTHEST", 100)
        rows[PURGED] = b"0"

        first = backend._first_minute(backend.get_server(), 30_000_000)

        assert first == 30_000_000 - 100

    def test_two_at_once_count_each_result_once(self, backend: Backend, clock: Clock, rows: dict[bytes, bytes]) -> None:
        backend.store([result(task_id) for task_id in ids(*range(300))])
        clock.now += 3600
        together = threading.Barrier(2)

        def purge() -> int:
            together.wait(5)
            return Backend().cleanup()

        with ThreadPoolExecutor(2) as threads:
            counts = [future.result() for future in [threads.submit(purge), threads.submit(purge)]]

        assert sum(counts) == 300
        assert {key for key in rows if key.startswith((RESULT, BUCKET))} == set()

    def test_an_id_that_is_written_while_its_bucket_is_purged_keeps_the_bucket(
        self, backend: Backend, clock: Clock, server: StandIn, rows: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody's clock is slow."""
        backend.store([result("x")])
        (bucket,) = (key for key in rows if key.startswith(BUCKET))
        clock.now += 3600
        is_over = tyrant._is_over

        def meanwhile(value: bytes, now: float) -> bool:
            rows[bucket] += b"\0\1y"
            return is_over(value, now)

        monkeypatch.setattr(tyrant, "_is_over", meanwhile)

        assert backend.cleanup() == 1
        assert b"\0\1y" in rows[bucket]

    def test_an_id_without_a_result_and_an_id_twice_do_no_harm(
        self, backend: Backend, clock: Clock, rows: dict[bytes, bytes]
    ) -> None:
        backend.store([result("x")])
        (bucket,) = (key for key in rows if key.startswith(BUCKET))
        rows[bucket] = rows[bucket] * 2 + b"\0\1y"
        clock.now += 3600

        assert backend.cleanup() == 1
        assert bucket not in rows

    @pytest.mark.parametrize("garbage", [b"\0", b"\xff\xff", b"\0\5abc", b"\0\0", b"\0\0" * 1000])
    def test_garbage_in_the_index_is_dropped_with_a_line_in_the_log(
        self,
        backend: Backend,
        clock: Clock,
        rows: dict[bytes, bytes],
        caplog: pytest.LogCaptureFixture,
        garbage: bytes,
    ) -> None:
        backend.store([result("x")])
        (bucket,) = (key for key in rows if key.startswith(BUCKET))
        rows[bucket] += garbage
        clock.now += 3600

        with caplog.at_level(logging.WARNING):
            assert backend.cleanup() == 1

        assert bucket not in rows
        said = [record.getMessage() for record in caplog.records if record.name == "celery.backends"]
        ending = "A bucket of expired results ends in the middle of an id; the rest of it is dropped."
        assert said == ([] if garbage.startswith(b"\0\0") else [ending])

    @pytest.mark.parametrize("name", ["vsiz", "misc", "out"])
    def test_a_server_that_forbids_purging_is_told_and_nothing_is_taken_for_purged(
        self, backend: Backend, clock: Clock, server: StandIn, rows: dict[bytes, bytes], name: str
    ) -> None:
        backend.store([result("x")])
        before = rows[PURGED]
        clock.now += 3600
        server.mask = frozenset({name})

        with pytest.raises(ResultBackendUnusable, match=rf"allow Tokyo Tyrant the commands? .*\b{name}\b"):
            backend.cleanup()

        assert rows[PURGED] == before

    def test_the_values_are_not_read(self, backend: Backend, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        backend.store([result("x", result='"' + "x" * 1_000_000 + '"')])
        clock.now += 3600
        monkeypatch.setattr(protocol, "LARGEST_ANSWER", 50_000)

        assert backend.cleanup() == 1
