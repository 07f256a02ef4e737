import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import Settings

from celery import conf
from celery.bin.options import VARIABLES

URL = "amqp://shop:s3c@ret@rabbit.example.org:5672/%2F"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def celery_settings(*arguments: str) -> str:
    output = StringIO()
    call_command("celery_settings", *arguments, stdout=output)
    return output.getvalue()


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(celery_settings("--json", *arguments))
    return found


def rows(name: str) -> list[dict[str, Any]]:
    return [row for row in answer()["settings"] if row["name"] == name]


def row(name: str) -> dict[str, Any]:
    (found,) = rows(name)
    return found


class TestEverySetting:
    def test_is_shown_once_in_the_order_of_the_table(self) -> None:
        assert [one["name"] for one in answer()["settings"]] == [setting.name for setting in conf.SETTINGS]

    def test_is_shown_to_people_under_its_topic(self) -> None:
        shown = celery_settings()

        for topic, settings in conf.TOPICS.items():
            (part,) = [part for part in shown.split("\n\n") if part.startswith(topic)]
            assert [line.split()[0] for line in part.splitlines()[1:]] == [setting.name for setting in settings]


class TestWhereAValueComesFrom:
    def test_the_default(self) -> None:
        assert row("CELERY_CRASH_LIMIT") == {
            "name": "CELERY_CRASH_LIMIT",
            "topic": "Limits and retries",
            "value": 3,
            "default": 3,
            "source": "default",
            "errors": [],
        }

    def test_the_settings_module_by_its_name(self) -> None:
        assert row("CELERY_AMQP_CONSUMER_QUEUE")["source"] == "tests.shop.settings"

    def test_settings_without_a_module(self, settings: Settings) -> None:
        settings.CELERY_CRASH_LIMIT = 7

        assert (row("CELERY_CRASH_LIMIT")["value"], row("CELERY_CRASH_LIMIT")["source"]) == (7, "settings")

    def test_none_is_the_default(self, settings: Settings) -> None:
        settings.CELERY_CRASH_LIMIT = None

        assert row("CELERY_CRASH_LIMIT")["source"] == "default"

    @pytest.mark.parametrize("name", ["AMQP_HOST", "AMQP_SERVER"])
    def test_the_classic_address(self, settings: Settings, name: str) -> None:
        del settings.CELERY_BROKER_URL
        setattr(settings, name, "rabbit")

        assert row("CELERY_BROKER_URL")["source"] == name
        assert row("CELERY_BROKER_URL")["value"] == "amqp://guest:***@rabbit:5672/%2F"

    def test_the_environment_of_celeryd_beside_the_setting(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.CELERYD_CONCURRENCY = 3
        monkeypatch.setenv("CELERYD_CONCURRENCY", "7")

        of_the_project, of_celeryd = rows("CELERYD_CONCURRENCY")

        assert (of_the_project["value"], of_the_project["source"]) == (3, "settings")
        assert (of_celeryd["value"], of_celeryd["source"]) == (7, "environment: CELERYD_CONCURRENCY, for celeryd")

    def test_a_flag_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYD_NO_BEAT", "yes")

        _, of_celeryd = rows("CELERYD_BEAT")

        assert of_celeryd["value"] is False
        assert of_celeryd["source"] == "environment: CELERYD_NO_BEAT, for celeryd"

    def test_an_empty_variable_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYD_CONCURRENCY", " ")

        assert len(rows("CELERYD_CONCURRENCY")) == 1

    def test_a_wrong_variable_is_shown_with_what_celeryd_would_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYD_TIME_LIMIT", "soon")

        _, of_celeryd = rows("CELERYD_TASK_TIME_LIMIT")

        assert of_celeryd["value"] == "soon"
        assert "CELERYD_TIME_LIMIT = 'soon' in the environment" in of_celeryd["errors"][0]


class TestPasswords:
    @pytest.mark.parametrize("arguments", [[], ["--json"], ["--changed"]])
    def test_none_is_shown(self, settings: Settings, arguments: list[str]) -> None:
        settings.CELERY_BROKER_URL = URL
        settings.AMQP_HOST = "rabbit.example.org"
        settings.AMQP_PASSWORD = "s3c@ret"

        shown = celery_settings(*arguments)

        assert "s3c" not in shown
        assert "@ret" not in shown
        assert "amqp://shop:***@rabbit.example.org:5672/%2F" in shown
        assert "(hidden)" in shown

    @pytest.mark.parametrize(
        "url", ["kafka://shop:s3cr3t@rabbit", "amqp://shop:s3cr3t/x@rabbit", "amqp://h/?password=s3cr3t"]
    )
    def test_none_is_shown_of_a_url_that_cannot_be(self, settings: Settings, url: str) -> None:
        settings.CELERY_BROKER_URL = url

        assert "s3cr3t" not in celery_settings()
        assert "s3cr3t" not in celery_settings("--json")


class TestWrongValues:
    def test_a_text_is_told_from_a_number(self, settings: Settings) -> None:
        settings.CELERYD_LEASE = "30"

        assert "CELERYD_LEASE '30' settings" in [" ".join(line.split()) for line in celery_settings().splitlines()]

    def test_one_is_shown_with_what_the_check_says_although_that_is_an_error(self, settings: Settings) -> None:
        settings.CELERYD_LEASE = "long"

        found = row("CELERYD_LEASE")

        assert found["value"] == "long"
        assert found["errors"][0].startswith("celery.E002: CELERYD_LEASE = 'long' is of type str")
        assert "! celery.E002: CELERYD_LEASE = 'long'" in celery_settings()

    def test_an_unknown_setting_is_shown_at_the_end(self, settings: Settings) -> None:
        settings.CELERY_BAKEND = "database"

        assert answer()["errors"] == [
            "celery.E001: CELERY_BAKEND is not a setting of celery. Did you mean CELERY_BACKEND?"
        ]
        assert celery_settings().splitlines()[-1].startswith("! celery.E001: CELERY_BAKEND")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CELERY_BROKER_URL", "kafka://x"),
            ("CELERY_BROKER_URL", 7),
            ("CELERY_BACKEND", "nowhere.Backend"),
            ("CELERY_BACKEND", [URL]),
            ("CELERY_ACCEPT_CONTENT", {"json", "yaml"}),
            ("CELERY_ACCEPT_CONTENT", {7: object()}),
            ("CELERYD_LOG_FILE", "a\x1b[31m\nb"),
        ],
    )
    def test_whatever_is_set_the_command_answers(self, settings: Settings, name: str, value: object) -> None:
        setattr(settings, name, value)

        assert name in celery_settings()
        assert name in celery_settings("--json")
        assert "\x1b" not in celery_settings()


def test_a_set_is_shown_in_the_same_order_each_time(settings: Settings) -> None:
    settings.CELERY_ACCEPT_CONTENT = {f"kind {number}" for number in range(9)}

    assert row("CELERY_ACCEPT_CONTENT")["value"] == [f"kind {number}" for number in range(9)]


class TestChanged:
    def test_shows_what_is_not_the_default(self, settings: Settings) -> None:
        settings.CELERY_CRASH_LIMIT = 7
        settings.CELERYD_LEASE = 30.0
        settings.CELERY_TASK_RESULT_EXPIRES = timedelta(days=5)

        assert [one["name"] for one in answer("--changed")["settings"]] == ["CELERY_CRASH_LIMIT"]

    def test_a_password_counts_though_it_is_hidden(self, settings: Settings) -> None:
        settings.AMQP_PASSWORD = "shop"

        assert "AMQP_PASSWORD" in [one["name"] for one in answer("--changed")["settings"]]

    def test_what_the_environment_says_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYD_LOGLEVEL", "INFO")

        assert [one["source"] for one in answer("--changed")["settings"]] == [
            "environment: CELERYD_LOGLEVEL, for celeryd"
        ]

    def test_where_nothing_is_changed_there_is_only_what_is_in_use(self) -> None:
        assert celery_settings("--changed").startswith("In use\nbroker    celery.broker.database.DatabaseBroker\n")


class TestWhatIsInUse:
    def test_broker_backend_and_databases(self) -> None:
        assert answer()["places"] == {
            "broker": "celery.broker.database.DatabaseBroker",
            "backend": "celery.backends.database.Backend",
            "messages": {"database": "default", "vendor": connections["default"].vendor},
            "results": {"database": "default", "vendor": connections["default"].vendor},
        }

    def test_the_cache_of_results(self, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"

        assert answer()["places"]["results"] == {
            "cache": "default",
            "class": "django.core.cache.backends.locmem.LocMemCache",
        }

    def test_what_cannot_be_had_is_left_empty(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "django://nowhere"
        settings.CELERY_BACKEND = "nowhere.Backend"

        places = answer()["places"]

        assert (places["backend"], places["messages"], places["results"]) == (None, None, None)

    def test_no_connection_is_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(connections["default"]), "connect", lambda _: pytest.fail("it connected"))

        celery_settings()


def test_an_empty_and_a_missing_value_can_be_told_apart(settings: Settings) -> None:
    settings.CELERY_AMQP_EXCHANGE = ""

    lines = [" ".join(line.split()) for line in celery_settings().splitlines()]

    assert "CELERY_AMQP_EXCHANGE '' settings" in lines
    assert "TT_HOST None default" in lines


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", [10**5000, Unshowable(), [Unshowable()], {Unshowable()}], ids=type)
@pytest.mark.parametrize("name", ["CELERY_ACCEPT_CONTENT", "CELERYD_CONCURRENCY", "CELERY_CACHE_ALIAS", "AMQP_PORT"])
def test_a_value_that_cannot_be_shown_is_described(name: str, value: object, settings: Settings) -> None:
    settings.CELERY_BACKEND = "cache"
    setattr(settings, name, value)

    assert "cannot be shown" in json.dumps(row(name)["value"])
    assert name in celery_settings()
