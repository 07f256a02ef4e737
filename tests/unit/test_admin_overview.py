"""celery/admin/overview and its tiles: the page by Django's test client; tests/browser sees it as people do."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import DatabaseError, ProgrammingError, connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch
from django.utils import timezone
from pytest_django import Settings

from celery import broker, conf, history, states, status
from celery.admin import links, overview
from celery.admin.overview import OverviewAdmin, latest_failures, one_line, reason, tiles
from celery.admin.overview.tiles import LIMIT, RANGES, Tile, capped, clock
from celery.backends.exceptions import dump
from celery.broker.base import Broker
from celery.exceptions import BrokerUnreachable, WorkerLost
from celery.history import Minute
from celery.models import Message, Overview, QueueDepth, TaskMeta, Throughput, Worker
from celery.status import Queue, Status, WorkerStatus

pytestmark = pytest.mark.django_db

ADDRESS = "/admin/celery/overview/"
MINUTE = timedelta(minutes=1)


def full_minute(ago: int = 1) -> datetime:
    """Return the beginning of a minute some minutes ago."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - ago * MINUTE


def user(*permissions: str) -> User:
    found = User.objects.create_user("staff", is_staff=True)
    found.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return found


@pytest.fixture
def page(client: Client) -> "Page":
    """The page, as a superuser sees it."""
    client.force_login(User.objects.create_superuser("admin"))
    return Page(client)


class Page:
    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, address: str = ADDRESS) -> str:
        answer = self._client.get(address)
        assert answer.status_code == 200
        return str(answer.content, "utf-8")

    def tiles(self, address: str = ADDRESS) -> dict[str, Tile]:
        found: list[Tile] = self._client.get(address).context["tiles"]
        return {tile.name: tile for tile in found}

    def context(self, name: str) -> Any:
        return self._client.get(ADDRESS).context[name]


def message(**fields: Any) -> None:
    number = Message.objects.count()
    Message.objects.create(**{"task_id": f"id {number}", "task": "shop.pay", "queue": "celery", "body": b""} | fields)


def work(name: str, **fields: Any) -> None:
    row = {
        "owner": name.ljust(32, "x"),
        "name": name,
        "pid": 42,
        "queues": "celery,mail",
        "concurrency": 4,
        "lease": 30,
    }
    Worker.objects.create(**row | fields)


def fail(task_id: str, **fields: Any) -> None:
    TaskMeta.objects.create(**{"task_id": task_id, "name": "shop.pay", "status": states.FAILURE} | fields)


class TestWhoMaySeeIt:
    def test_somebody_with_the_permission(self, client: Client) -> None:
        client.force_login(user("view_overview"))

        assert client.get(ADDRESS).status_code == 200
        assert ADDRESS in client.get("/admin/").content.decode()

    def test_nobody_else(self, client: Client) -> None:
        client.force_login(user("view_message", "view_taskmeta"))

        assert client.get(ADDRESS).status_code == 403
        assert ADDRESS not in client.get("/admin/").content.decode()

    def test_strangers_are_asked_to_log_in(self, client: Client) -> None:
        assert client.get(ADDRESS).headers["Location"].startswith("/admin/login/")

    def test_results_and_other_lists_need_permissions_of_their_own(self, client: Client) -> None:
        # given
        fail("some", traceback="ValueError: secret")
        message(dead_at=timezone.now())
        client.force_login(user("view_overview"))

        # when
        shown = client.get(ADDRESS).content.decode()

        # then
        assert "secret" not in shown
        assert "Latest failures" not in shown
        assert "/admin/celery/message/" not in shown

    @pytest.mark.parametrize("path", ["add/", "1/", "1/change/", "1/delete/", "1/history/"])
    def test_there_is_no_other_page(self, page: Page, client: Client, path: str) -> None:
        assert client.get(f"{ADDRESS}{path}").status_code == 404

    def test_nothing_can_be_changed(self) -> None:
        model_admin, request = OverviewAdmin(Overview, admin.site), HttpRequest()

        assert not model_admin.has_add_permission(request)
        assert not model_admin.has_change_permission(request)
        assert not model_admin.has_delete_permission(request)


class TestAnEmptyOne:
    def test_says_what_to_do(self, page: Page) -> None:
        shown = page.get()

        assert "Nothing has run in the last hour; start a worker with <code>manage.py celeryd</code>." in shown
        assert "No worker runs; start one with" in shown
        assert "None is stored." in shown
        assert "<figure" not in shown

    def test_with_a_worker_does_not_ask_for_one(self, page: Page) -> None:
        work("w@a")

        assert "Nothing has run in the last 24 hours." in page.get(f"{ADDRESS}?range=24h")

    def test_has_figures_of_nothing(self, page: Page) -> None:
        shown = page.tiles()

        assert shown["Tasks a minute"].value == "0"
        assert shown["Failures"].note == "nothing has run in the last hour"
        assert shown["Mean runtime"].value == shown["Oldest waiting"].value == "\N{EN DASH}"
        assert not shown["Dead"].is_bad
        assert shown["Workers"].is_bad


class TestItsFigures:
    def test_of_the_past(self, page: Page) -> None:
        Throughput.objects.create(at=full_minute(), worker="w@a", done=8_900, failed=95, retried=5, runtime=1_116.0)
        Throughput.objects.create(at=full_minute(100), worker="w@a", done=1_000, failed=1_000)

        hour, day = page.tiles(), page.tiles(f"{ADDRESS}?range=24h")

        assert hour["Tasks a minute"].value == day["Tasks a minute"].value == "1,800"
        assert (hour["Failures"].value, hour["Failures"].note) == ("95", "1.06% of 9,000 tasks in the last hour")
        assert (day["Failures"].value, day["Failures"].note) == ("1,095", "9.95% of 11,000 tasks in the last 24 hours")
        assert hour["Mean runtime"].value == "124 ms"

    def test_of_the_present(self, page: Page) -> None:
        now = timezone.now()
        message(created_at=now - 3 * MINUTE)
        message(created_at=now - MINUTE)
        message(queue="mail", created_at=now - MINUTE)
        message(visible_at=now + MINUTE)
        message(dead_at=now)

        shown = page.tiles()

        assert (shown["Waiting"].value, shown["Waiting"].note) == ("3", "in 2 queues")
        assert shown["Oldest waiting"].value.startswith("3 min")
        assert shown["Scheduled"].value == "1"
        assert shown["Scheduled"].note.startswith("next ")
        assert shown["Dead"].value == "1"
        assert shown["Dead"].is_bad

    def test_of_workers(self, page: Page) -> None:
        work("w@a")
        work("w@b", seen_at=timezone.now() - MINUTE)

        workers = page.tiles()["Workers"]

        assert (workers.value, workers.note, workers.is_bad) == ("1 alive", "1 silent", True)

    def test_lead_to_the_lists(self, page: Page) -> None:
        found = {name: tile.link for name, tile in page.tiles(f"{ADDRESS}?range=7d").items() if tile.link}

        assert found == {
            "Dead": "/admin/celery/message/?state=dead",
            "Failures": "/admin/celery/taskmeta/?state=FAILURE&since=168",
            "Scheduled": "/admin/celery/message/?state=scheduled",
            "Workers": "/admin/celery/worker/",
        }

    @pytest.mark.parametrize("name", ["Dead", "Failures", "Scheduled", "Workers"])
    def test_lead_to_pages_that_are_there(self, page: Page, name: str) -> None:
        page.get(page.tiles()[name].link)

    def test_lead_nowhere_where_the_project_has_taken_the_lists_away(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(links, "reverse", raising(NoReverseMatch("not here")))

        assert not any(tile.link for tile in page.tiles().values())

    def test_lead_to_pages_of_the_same_site(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sites: list[str] = []
        monkeypatch.setattr(links, "reverse", lambda *_, current_app, **__: sites.append(current_app))
        asked = request()
        asked.user, asked.current_app = User(is_superuser=True), "shop_admin"

        tiles.of_present(asked, present())

        assert sites == ["shop_admin"] * 3

    @pytest.mark.parametrize(
        ("seconds", "words"), [(0.0, "0 ms"), (0.0123456, "12.3 ms"), (1.234, "1.23 s"), (754.0, "12 min 34 s")]
    )
    def test_say_how_long_a_task_took(self, seconds: float, words: str) -> None:
        minutes = [Minute(at=full_minute(), done=3, failed=1, runtime=4 * seconds)]

        (tile,) = [
            one for one in tiles.of_history(RANGES[0], minutes, [], failures_at="") if one.name == "Mean runtime"
        ]

        assert tile.value == words

    def test_say_a_small_rate_with_a_decimal(self) -> None:
        (rate,) = tiles.of_history(RANGES[0], [], [Minute(at=full_minute(), done=7)], failures_at="")

        assert rate.value == "1.4"


class TestCounts:
    @pytest.mark.parametrize(
        ("number", "text"), [(0, "0"), (1_234, "1,234"), (LIMIT - 1, "99,999"), (LIMIT, "100,000+")]
    )
    def test_end_at_a_limit(self, number: int, text: str) -> None:
        assert capped(number) == text

    def test_of_all_queues_say_so_when_one_is_at_the_limit(self) -> None:
        now = present(queues=(Queue(name="a", depth=LIMIT, oldest=1.0), Queue(name="b", depth=1_000, oldest=9.0)))

        waiting, oldest = [tile for tile in tiles.of_present(request(), now) if "aiting" in tile.name]

        assert waiting.value == "101,000+"
        assert oldest.value == "9 s"

    def test_of_an_outbox_are_there_when_it_is_not_empty(self) -> None:
        with_outbox = {tile.name: tile.value for tile in tiles.of_present(request(), present(outbox=7))}
        without = {tile.name for tile in tiles.of_present(request(), present())}

        assert with_outbox["Outbox"] == "7"
        assert "Outbox" not in without


def present(**fields: Any) -> Status:
    nothing = {"scheduled": 0, "next_due": None, "outbox": 0, "dead": 0, "error": None, "limit": LIMIT}
    return Status(**{"queues": (), "workers": (), **nothing} | fields)


def request() -> HttpRequest:
    found = HttpRequest()
    found.user = User(username="nobody", is_active=False)
    return found


class TestItsTables:
    def test_show_the_fullest_queue_first(self, page: Page) -> None:
        message(queue="mail", created_at=timezone.now() - 125 * MINUTE)

        rows = page.context("queues").rows

        assert [(row["name"], row["depth"], row["oldest"]) for row in rows] == [
            ("mail", "1", "2 h 5 min"),
            (conf.AMQP_CONSUMER_QUEUE, "0", "\N{EN DASH}"),
        ]

    def test_show_the_silent_workers_first_with_a_link_to_each(self, page: Page) -> None:
        work("w@a")
        work("w@b", seen_at=timezone.now() - 2 * MINUTE)

        rows = page.context("workers").rows

        assert [(row["name"], row["is_silent"], row["children"], row["queues"]) for row in rows] == [
            ("w@b", True, 4, "celery, mail"),
            ("w@a", False, 4, "celery, mail"),
        ]
        page.get(rows[0]["link"])

    def test_are_not_endless(self) -> None:
        worker = WorkerStatus(
            owner="o", name="w", pid=1, queues=("a",), children=1, started=timezone.now(), seen=1.0, is_silent=False
        )
        now = present(
            workers=(worker,) * 73, queues=tuple(Queue(name=str(at), depth=at, oldest=None) for at in range(51))
        )

        workers, queues = overview.worker_rows(request(), now), overview.queue_rows(now)

        assert (len(workers.rows), workers.more) == (50, 23)
        assert (len(queues.rows), queues.more) == (50, 1)

    def test_escape_all_names(self, page: Page) -> None:
        hostile = "<script>\x00\"'&"
        message(queue=hostile, task=hostile)
        work(hostile, queues=hostile)
        QueueDepth.objects.create(at=full_minute(2), queue=hostile, depth=1)
        fail("some", name=hostile, worker=hostile, traceback=hostile)

        shown = page.get()

        assert shown.count("&lt;script&gt;\N{REPLACEMENT CHARACTER}&quot;&#x27;&amp;") >= 6
        assert "\x00" not in shown
        assert all("src=" in tag for tag in re.findall("<script[^>]*>", shown))


class TestTheLatestFailures:
    def test_are_ten_the_latest_first_with_a_link_to_each(self, page: Page) -> None:
        now = timezone.now()
        for number in range(12):
            fail(f"id-{number}", name=f"shop.task_{number}", date_done=now - number * MINUTE, worker="w@a")
        TaskMeta.objects.create(task_id="well", name="shop.well", status=states.DONE)
        TaskMeta.objects.create(task_id="again", name="shop.again", status=states.RETRY)

        rows = page.context("failures")

        assert [row["task"] for row in rows] == [f"shop.task_{number}" for number in range(10)]
        assert "id-0" in page.get(rows[0]["link"])

    def test_without_a_name_are_shown_by_id(self, page: Page) -> None:
        fail("of 2009", name="")

        assert page.context("failures")[0]["task"] == "of 2009"

    @pytest.mark.parametrize(
        ("traceback", "result", "said"),
        [
            ("Traceback:\n  File x\nValueError: no address\n\n", "{}", "ValueError: no address"),
            ("", '{"class": "WorkerLost"}', '{"class": "WorkerLost"}'),
            ("", "", ""),
            ("E: " + "x" * 500, "", "E: " + "x" * 157 + "…"),
            ("E: a\x1b[31m", "", "E: a\N{REPLACEMENT CHARACTER}[31m"),
            ("", dump(WorkerLost('it killed\n3 "processes"')), 'WorkerLost: it killed 3 "processes"'),
            ("", dump(WorkerLost()), "WorkerLost"),
            ("", dump(WorkerLost("ä" * 500))[:100], "WorkerLost: äääää"),
            (
                "",
                dump(WorkerLost("\N{GRINNING FACE}" * 9))[:83],
                "WorkerLost: \N{GRINNING FACE}\N{REPLACEMENT CHARACTER}",
            ),
            ("", dump(WorkerLost("x" * 60_000))[:1_000], "WorkerLost: " + "x" * 148 + "…"),
            ("", dump(KeyError(7)), dump(KeyError(7))),
            ("", dump(WorkerLost("no \\u escape")), "WorkerLost: no \\u escape"),
            ("", dump(WorkerLost("too late"))[:50], dump(WorkerLost())[:50]),
        ],
    )
    def test_say_what_happened_in_a_line(self, traceback: str, result: str, said: str) -> None:
        assert reason(traceback, result) == said

    def test_read_no_more_of_a_row_than_that_takes(self, page: Page) -> None:
        fail("long", traceback="x" * 60_000 + "\nValueError: the end", result="y" * 60_000)

        with CaptureQueriesContext(connection) as queries:
            assert page.context("failures")[0]["error"] == "ValueError: the end"

        (query,) = [one["sql"] for one in queries if "traceback" in one["sql"]]
        assert "1000" in query

    def test_are_found_by_the_partial_index(self, rf: Any) -> None:
        fail("some")
        asked = rf.get(ADDRESS)
        asked.user = User.objects.create_superuser("admin")
        with CaptureQueriesContext(connection) as queries:
            latest_failures(asked)
        sql = queries[-1]["sql"]

        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = " ".join(str(row) for row in cursor.fetchall())

        assert "celery_taskmeta_odd" in plan

    def test_are_not_told_where_results_are_elsewhere(self, page: Page, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"
        settings.CELERY_CACHE_ALIAS = "default"
        settings.CACHES = {
            "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/x"}
        }
        fail("some")

        assert "Latest failures" not in page.get()
        assert page.tiles()["Failures"].link == ""


class Unreachable(Broker):
    """A broker outside the database that does not answer."""

    relays = True

    def depth(self, queue: str) -> NoReturn:
        raise BrokerUnreachable("127.0.0.1:5672 refuses\nthe connection")


class TestTrouble:
    def test_a_broker_that_does_not_answer_is_one_line(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        # given
        monkeypatch.setattr(broker, "current", lambda: Unreachable("rabbit://"))
        Throughput.objects.create(at=full_minute(), worker="w@a", done=5)
        work("w@a")

        # when
        shown = page.get()

        # then: everything else is there
        assert "The broker does not answer: 127.0.0.1:5672 refuses the connection" in shown
        assert "Tasks per minute" in shown
        assert "w@a" in shown
        assert page.tiles()["Waiting"].value == "\N{EN DASH}"
        assert [row["depth"] for row in page.context("queues").rows] == ["?", "?"]

    @pytest.mark.parametrize("address", ["nonsense://", "amqp"])
    def test_a_wrong_setting_is_one_line(self, page: Page, settings: Settings, address: str) -> None:
        settings.CELERY_BROKER_URL = address

        shown = page.get()

        assert shown.count("CELERY_BROKER_URL starts with") == 1
        assert "Latest failures" in shown

    def test_a_wrong_backend_is_one_line(self, page: Page, settings: Settings) -> None:
        settings.CELERY_BACKEND = "nowhere.at.all"

        shown = page.get()

        assert "No module named &#x27;nowhere&#x27;" in shown
        assert "Waiting" in shown

    @pytest.mark.parametrize("missing", ["throughput", "depths"])
    def test_a_missing_table_is_one_line(self, page: Page, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
        monkeypatch.setattr(history, missing, raising(ProgrammingError('relation "celery_x" does not exist\nLINE 1')))
        message(dead_at=timezone.now())

        shown = page.get()

        assert "LINE 1" not in shown
        assert "celery_x&quot; does not exist. If a table is missing, run: manage.py migrate celery" in shown
        assert page.tiles()["Dead"].value == "1"

    def test_a_database_that_is_away_leaves_a_page(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        away = raising(DatabaseError("the connection is closed"))
        monkeypatch.setattr(history, "throughput", away)
        monkeypatch.setattr(history, "depths", away)
        monkeypatch.setattr(status, "collect", away)
        monkeypatch.setattr(overview, "latest_failures", away)

        shown = page.get()

        assert shown.count("the connection is closed") == 1
        assert "Nothing has run" not in shown

    def test_what_is_said_is_on_one_line_of_bounded_length(self) -> None:
        assert one_line("a\n\n b\x00") == "a b\N{REPLACEMENT CHARACTER}"
        assert len(one_line("x" * 10_000)) == 2 * overview.LONGEST_TEXT

    def test_a_mistake_of_ours_is_not_hidden(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history, "depths", raising(TypeError("ours")))

        with pytest.raises(TypeError, match="ours"):
            page.get()


def raising(error: Exception) -> Any:
    def ask(*_: Any, **__: Any) -> NoReturn:
        raise error

    return ask


class TestThePage:
    @pytest.mark.parametrize("asked", ["", "?range=1h", "?range=1y", "?range=%00"])
    def test_tells_of_an_hour_unless_another_range_is_asked_for(self, page: Page, asked: str) -> None:
        assert 'href="?range=1h" aria-current="page"' in page.get(f"{ADDRESS}{asked}")

    def test_is_not_kept_by_anybody(self, page: Page, client: Client) -> None:
        assert "no-store" in client.get(ADDRESS).headers["Cache-Control"]

    def test_has_times_in_the_current_time_zone(self, page: Page, settings: Settings) -> None:
        settings.TIME_ZONE = "Asia/Kolkata"
        timezone.deactivate()
        end = full_minute(2)
        Throughput.objects.create(at=end, worker="w@a", done=5)

        shown = page.get()

        there = timezone.localtime(end - MINUTE)
        assert f"<title>{there:%H:%M}: 5 done" in shown
        assert "Asia/Kolkata" in shown

    def test_makes_as_many_queries_for_many_rows_as_for_few(self, page: Page) -> None:
        self.fill(2)
        few = self.queries(page)

        self.fill(60)
        many = self.queries(page)

        assert many == few

    @staticmethod
    def fill(number: int) -> None:
        first = TaskMeta.objects.count()
        for at in range(first, first + number):
            message()
            message(dead_at=timezone.now())
            fail(f"id {at}")
            work(f"w{at}")
            Throughput.objects.create(at=full_minute(at // 2 + 1), worker="w", done=1)
            QueueDepth.objects.create(at=full_minute(at + 2), queue="celery", depth=at)

    @staticmethod
    def queries(page: Page) -> int:
        with CaptureQueriesContext(connection) as queries:
            page.get()
        return len(queries)

    def test_survives_in_a_request_that_is_one_transaction(self) -> None:
        (pattern,) = OverviewAdmin(Overview, admin.site).get_urls()

        assert vars(pattern.callback)["_non_atomic_requests"] == {"default"}


class TestTheClock:
    @pytest.fixture(autouse=True)
    def _noon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))

    @pytest.mark.parametrize(
        ("moment", "said"),
        [
            (datetime(2026, 11, 22, 9, 5, 7, tzinfo=UTC), "09:05:07"),
            (datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC), "21 Nov 2026, 09:05"),
        ],
    )
    def test_names_the_day_unless_it_is_today(self, moment: datetime, said: str) -> None:
        assert clock(moment) == said
