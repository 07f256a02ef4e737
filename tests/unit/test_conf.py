import logging
import os
import re
from datetime import timedelta

import pytest
from django.test import override_settings
from pytest_django import Settings

from celery import conf
from celery.conf.setting import Setting

ALL = pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)


class TestTheTable:
    @ALL
    def test_a_default_has_the_type_that_the_table_demands(self, setting: Setting) -> None:
        default = setting.default_value()

        assert default is None or (
            isinstance(default, setting.types) and (bool in setting.types) == isinstance(default, bool)
        )

    @ALL
    def test_a_default_is_allowed(self, setting: Setting) -> None:
        default = setting.default_value()

        assert default is None or setting.allows(default)

    @ALL
    def test_a_sentence_tells_what_it_means(self, setting: Setting) -> None:
        assert re.fullmatch(r"[A-Z].*\.", setting.sentence)

    @ALL
    def test_a_name_belongs_to_us(self, setting: Setting) -> None:
        of_0_2 = ("AMQP_", "TT_", "SEND_CELERY_")

        assert setting.name.startswith(("CELERY_", "CELERYD_", *of_0_2))

    def test_no_name_and_no_constant_is_there_twice(self) -> None:
        assert len(conf.BY_NAME) == len(conf.BY_CONSTANT) == len(conf.SETTINGS)


class TestReading:
    def test_a_setting_is_read_at_use(self) -> None:
        assert conf.CRASH_LIMIT == 3

        with override_settings(CELERY_CRASH_LIMIT=7):
            assert conf.CRASH_LIMIT == 7

        assert conf.CRASH_LIMIT == 3

    def test_none_means_the_default(self, settings: Settings) -> None:
        settings.CELERY_CRASH_LIMIT = None

        assert conf.CRASH_LIMIT == 3

    @pytest.mark.parametrize("value", [0, False, "", ()])
    def test_a_false_value_is_a_value(self, settings: Settings, value: object) -> None:
        settings.CELERY_SQLITE_TUNING = value

        assert value == conf.SQLITE_TUNING

    def test_a_constant_that_is_not_in_the_table_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no constant 'NONSENSE'"):
            _ = conf.NONSENSE

    def test_the_name_of_a_setting_is_a_constant_too(self, settings: Settings) -> None:
        settings.CELERY_BACKEND = "cache"

        assert conf.CELERY_BACKEND == conf.BACKEND == "cache"

    def test_there_is_at_least_one_child(self) -> None:
        assert conf.DAEMON_CONCURRENCY >= 1


#: Constant, setting and default, as they were in 0.2.
OF_0_2 = [
    ("AMQP_EXCHANGE", "CELERY_AMQP_EXCHANGE", "celery"),
    ("AMQP_EXCHANGE_TYPE", "CELERY_AMQP_EXCHANGE_TYPE", "direct"),
    ("AMQP_PUBLISHER_ROUTING_KEY", "CELERY_AMQP_PUBLISHER_ROUTING_KEY", "celery"),
    ("AMQP_CONSUMER_ROUTING_KEY", "CELERY_AMQP_CONSUMER_ROUTING_KEY", "celery"),
    ("AMQP_CONSUMER_QUEUE", "CELERY_AMQP_CONSUMER_QUEUE", "celery"),
    ("DAEMON_CONCURRENCY", "CELERYD_CONCURRENCY", len(os.sched_getaffinity(0))),
    ("QUEUE_WAKEUP_AFTER", "CELERYD_QUEUE_WAKEUP_AFTER", 0.3),
    ("EMPTY_MSG_EMIT_EVERY", "CELERYD_EMPTY_MSG_EMIT_EVERY", 5),
    ("DAEMON_PID_FILE", "CELERYD_PID_FILE", "celeryd.pid"),
    ("DAEMON_LOG_LEVEL", "CELERYD_DAEMON_LOG_LEVEL", "INFO"),
    ("DAEMON_LOG_FILE", "CELERYD_LOG_FILE", "celeryd.log"),
    ("CELERY_BACKEND", "CELERY_BACKEND", "database"),
    ("CELERY_PERIODIC_STATUS_BACKEND", "CELERY_PERIODIC_STATUS_BACKEND", "database"),
    ("CELERY_TASK_RESULT_EXPIRES", "CELERY_TASK_RESULT_EXPIRES", timedelta(days=5)),
    ("CELERY_ALWAYS_EAGER", "CELERY_ALWAYS_EAGER", False),
    ("AMQP_HOST", "AMQP_HOST", None),
    ("AMQP_SERVER", "AMQP_SERVER", None),
    ("AMQP_PORT", "AMQP_PORT", 5672),
    ("AMQP_USER", "AMQP_USER", "guest"),
    ("AMQP_PASSWORD", "AMQP_PASSWORD", "guest"),
    ("AMQP_VHOST", "AMQP_VHOST", "/"),
    ("TT_HOST", "TT_HOST", None),
    ("TT_PORT", "TT_PORT", None),
]


class TestTheConstantsOf02:
    @pytest.mark.parametrize(("constant", "name", "default"), OF_0_2, ids=[constant for constant, *_ in OF_0_2])
    def test_a_constant_is_its_setting_and_has_its_default_beside_it(
        self, constant: str, name: str, default: object, settings: Settings
    ) -> None:
        setattr(settings, name, None)
        assert getattr(conf, constant) == getattr(conf, f"DEFAULT_{constant}") == default

        setattr(settings, name, "other")

        assert getattr(conf, constant) == "other"
        assert getattr(conf, f"DEFAULT_{constant}") == default

    def test_the_log_has_a_format(self) -> None:
        assert "%(message)s" in conf.LOG_FORMAT
        assert conf.LOG_FORMAT == conf.DEFAULT_LOG_FORMAT

    @pytest.mark.parametrize("name", conf.LOG_LEVELS)
    def test_a_level_has_the_number_that_logging_gives_it(self, name: str) -> None:
        assert conf.LOG_LEVELS[name] == getattr(logging, name)

    @pytest.mark.parametrize("debug", [True, False])
    def test_error_emails_are_sent_unless_debug_is_on(self, debug: bool, settings: Settings) -> None:
        settings.DEBUG = debug

        assert conf.SEND_CELERY_TASK_ERROR_EMAILS is not debug

    def test_the_routing_keys_are_the_name_of_the_default_queue(self, settings: Settings) -> None:
        settings.CELERY_AMQP_CONSUMER_QUEUE = "shop"

        assert (conf.AMQP_PUBLISHER_ROUTING_KEY, conf.AMQP_CONSUMER_ROUTING_KEY) == ("shop", "shop")

    def test_a_default_of_nothing_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no constant 'DEFAULT_NONSENSE'"):
            _ = conf.DEFAULT_NONSENSE


class TestWhatASettingAllows:
    @pytest.mark.parametrize(
        ("name", "value", "is_allowed"),
        [
            ("CELERY_TASK_RESULT_EXPIRES", timedelta(seconds=1), True),
            ("CELERY_TASK_RESULT_EXPIRES", timedelta(milliseconds=999), False),
            ("CELERY_TASK_RESULT_EXPIRES", 1, True),
            ("CELERY_TASK_RESULT_EXPIRES", 0.5, False),
            ("CELERYD_DAEMON_LOG_LEVEL", "info", True),
            ("CELERYD_DAEMON_LOG_LEVEL", "loud", False),
            ("CELERY_QUEUE_TYPE", "quorum", True),
            ("CELERY_QUEUE_TYPE", "Quorum", False),
        ],
    )
    def test_it_compares_with_choices_and_minimum(self, name: str, value: object, is_allowed: bool) -> None:
        assert conf.BY_NAME[name].allows(value) is is_allowed


class TestTheClassicBrokerSettings:
    @pytest.fixture(autouse=True)
    def _no_url(self, settings: Settings) -> None:
        del settings.CELERY_BROKER_URL

    def test_without_any_the_queue_is_in_the_database(self) -> None:
        assert conf.BROKER_URL == "django://"

    def test_a_host_is_enough(self, settings: Settings) -> None:
        settings.AMQP_HOST = "rabbit"

        assert conf.BROKER_URL == "amqp://guest:guest@rabbit:5672/%2F"

    def test_the_older_name_of_the_host_is_understood(self, settings: Settings) -> None:
        settings.AMQP_SERVER = "rabbit"

        assert conf.BROKER_URL.endswith("@rabbit:5672/%2F")

    def test_every_part_is_used_and_quoted(self, settings: Settings) -> None:
        settings.AMQP_HOST = "rabbit"
        settings.AMQP_PORT = 5673
        settings.AMQP_USER = "a/b"
        settings.AMQP_PASSWORD = "p@ss:word"
        settings.AMQP_VHOST = "my/shop"

        assert conf.BROKER_URL == "amqp://a%2Fb:p%40ss%3Aword@rabbit:5673/my%2Fshop"

    def test_an_empty_part_counts_as_not_set(self, settings: Settings) -> None:
        settings.AMQP_HOST = "rabbit"
        settings.AMQP_PORT = settings.AMQP_USER = settings.AMQP_PASSWORD = settings.AMQP_VHOST = ""

        assert conf.BROKER_URL == "amqp://guest:guest@rabbit:5672/%2F"

    def test_a_url_wins_over_them(self, settings: Settings) -> None:
        settings.AMQP_HOST = "rabbit"
        settings.CELERY_BROKER_URL = "django://"

        assert conf.BROKER_URL == "django://"
