import re

import pytest
from django.test import override_settings
from pytest_django import Settings

from celery import conf
from celery.conf import Setting

ALL = pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)


class TestTheTable:
    @ALL
    def test_a_default_has_the_type_that_the_table_demands(self, setting: Setting) -> None:
        default = setting.default() if callable(setting.default) else setting.default

        assert default is None or (
            isinstance(default, setting.types) and (bool in setting.types) == isinstance(default, bool)
        )

    @ALL
    def test_a_default_is_allowed(self, setting: Setting) -> None:
        default = setting.default() if callable(setting.default) else setting.default

        assert not setting.choices or default in setting.choices
        assert setting.minimum is None or default is None or default >= setting.minimum

    @ALL
    def test_a_sentence_tells_what_it_means(self, setting: Setting) -> None:
        assert re.fullmatch(r"[A-Z].*\.", setting.sentence)

    @ALL
    def test_a_name_belongs_to_us(self, setting: Setting) -> None:
        assert setting.name.startswith(("CELERY_", "CELERYD_"))

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

    def test_there_is_at_least_one_child(self) -> None:
        assert conf.DAEMON_CONCURRENCY >= 1


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

    def test_a_url_wins_over_them(self, settings: Settings) -> None:
        settings.AMQP_HOST = "rabbit"
        settings.CELERY_BROKER_URL = "django://"

        assert conf.BROKER_URL == "django://"
