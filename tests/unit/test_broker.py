"""celery/broker and celery/broker/store: found by URL and by database, and refused in words that help."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from pytest_django import Settings

from celery import broker
from celery.broker import store
from celery.broker.database import DatabaseBroker


@pytest.mark.parametrize("url", ["kafka://localhost", "localhost:5672", "", "DJANGO://", "amqp:/localhost"])
def test_a_url_of_no_broker_is_refused_with_the_schemes_that_there_are(url: str, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = url

    with pytest.raises(ImproperlyConfigured, match=r"must start with one of django://, amqp://, .*redis://"):
        broker.current()


def test_each_url_has_one_broker(settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "django://"

    assert isinstance(broker.current(), DatabaseBroker)
    assert broker.current() is broker.by_url("django://")


def test_a_database_that_keeps_no_messages_is_refused_with_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    store.of.cache_clear()

    # when
    with pytest.raises(ImproperlyConfigured) as raised:
        store.of("default")

    # then
    text = "DATABASES['default'] is oracle; celery keeps messages in one of: mysql, postgresql, sqlite"
    assert str(raised.value) == text
