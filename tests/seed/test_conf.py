"""celery.conf: each constant has the value of its setting, and each setting changes what it says.

What the settings of the daemon do is seen on a real one, in test_celeryd.
"""

import logging
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import amqp
import pytest
from django.core import mail as django_mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from pytest_django import Settings

import celery.conf
from celery import backends, broker, conf, log, mail
from celery.backends.base import Result
from celery.backends.tyrant import Backend as TyrantBackend
from celery.bin import celeryd
from celery.checks import check_settings
from celery.models import Message, PeriodicTaskMeta, TaskMeta
from celery.task import PeriodicTask, Task, discard_all, tasks
from celery.testing import Worker
from tests.mails import ADMINS
from tests.memory_backend import MemoryBackend
from tests.seed.conftest import Rabbit
from tests.seed.table import rows_of
from tests.tyrant.records import HASH
from tests.tyrant.stand_in import StandIn

pytestmark = pytest.mark.django_db

row = rows_of("celery.conf")

#: What a constant is by default, its setting, and another value of that.
CONSTANTS = [
    ("DEFAULT_AMQP_EXCHANGE", "CELERY_AMQP_EXCHANGE", "celery", "news"),
    ("DEFAULT_AMQP_EXCHANGE_TYPE", "CELERY_AMQP_EXCHANGE_TYPE", "direct", "topic"),
    ("DEFAULT_AMQP_PUBLISHER_ROUTING_KEY", "CELERY_AMQP_PUBLISHER_ROUTING_KEY", "celery", "news"),
    ("DEFAULT_AMQP_CONSUMER_ROUTING_KEY", "CELERY_AMQP_CONSUMER_ROUTING_KEY", "celery", "news"),
    ("DEFAULT_AMQP_CONSUMER_QUEUE", "CELERY_AMQP_CONSUMER_QUEUE", "celery", "news"),
    ("DEFAULT_DAEMON_CONCURRENCY", "CELERYD_CONCURRENCY", len(os.sched_getaffinity(0)), 7),
    ("DEFAULT_QUEUE_WAKEUP_AFTER", "CELERYD_QUEUE_WAKEUP_AFTER", 0.3, 1.5),
    ("DEFAULT_EMPTY_MSG_EMIT_EVERY", "CELERYD_EMPTY_MSG_EMIT_EVERY", 5, 9),
    ("DEFAULT_DAEMON_PID_FILE", "CELERYD_PID_FILE", "celeryd.pid", "other.pid"),
    ("DEFAULT_DAEMON_LOG_FILE", "CELERYD_LOG_FILE", "celeryd.log", "other.log"),
    ("DEFAULT_DAEMON_LOG_LEVEL", "CELERYD_DAEMON_LOG_LEVEL", "INFO", "DEBUG"),
    ("DEFAULT_SEND_CELERY_TASK_ERROR_EMAILS", "SEND_CELERY_TASK_ERROR_EMAILS", True, False),
]


class Echo(Task):
    name = "seed.echo"

    def run(self, value: Any) -> Any:
        return value


@pytest.fixture(autouse=True)
def _tasks() -> None:
    tasks.register(Echo)


@row("DEFAULT_AMQP_EXCHANGE", "DEFAULT_AMQP_EXCHANGE_TYPE", "DEFAULT_AMQP_PUBLISHER_ROUTING_KEY")
@row("DEFAULT_AMQP_CONSUMER_ROUTING_KEY", "DEFAULT_AMQP_CONSUMER_QUEUE", "DEFAULT_DAEMON_CONCURRENCY")
@row("DEFAULT_QUEUE_WAKEUP_AFTER", "DEFAULT_EMPTY_MSG_EMIT_EVERY", "DEFAULT_DAEMON_PID_FILE")
@row("DEFAULT_DAEMON_LOG_FILE", "DEFAULT_DAEMON_LOG_LEVEL", "DEFAULT_SEND_CELERY_TASK_ERROR_EMAILS")
@pytest.mark.parametrize(("constant", "setting", "default", "other"), CONSTANTS)
def test_a_constant_follows_its_setting_and_its_default_stays(
    settings: Settings, constant: str, setting: str, default: Any, other: Any
) -> None:
    # given
    settings.DEBUG = False
    setattr(settings, setting, None)

    # then
    in_force = constant.removeprefix("DEFAULT_")
    assert getattr(conf, in_force) == getattr(conf, constant) == default
    setattr(settings, setting, other)
    assert getattr(conf, in_force) == other
    assert getattr(conf, constant) == default


@row("DEFAULT_SEND_CELERY_TASK_ERROR_EMAILS")
@pytest.mark.parametrize("debug", [True, False])
def test_by_default_failures_are_mailed_where_nobody_debugs(settings: Settings, debug: bool) -> None:
    settings.DEBUG = debug

    assert conf.DEFAULT_SEND_CELERY_TASK_ERROR_EMAILS is (not debug)


# -- RabbitMQ


@row("AMQP_HOST", "AMQP_PORT", "AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST")
@row("AMQP_EXCHANGE", "AMQP_CONSUMER_QUEUE")
@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
def test_messages_go_to_the_server_exchange_and_queue_of_the_settings(rabbit: Rabbit, settings: Settings) -> None:
    # given
    parts = (settings.AMQP_HOST, settings.AMQP_PORT, settings.AMQP_USER, settings.AMQP_PASSWORD, settings.AMQP_VHOST)
    assert None not in parts

    # when
    sent = Echo.delay(1)

    # then
    found = rabbit.get()
    assert found.properties["correlation_id"] == sent.task_id
    assert found.delivery_info["exchange"] == conf.AMQP_EXCHANGE == rabbit.exchange
    assert found.delivery_info["routing_key"] == conf.AMQP_CONSUMER_QUEUE == rabbit.queue


@row("AMQP_PUBLISHER_ROUTING_KEY", "AMQP_CONSUMER_ROUTING_KEY", "AMQP_EXCHANGE_TYPE")
@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
def test_keys_and_the_type_of_the_exchange_lead_messages_to_the_queue(rabbit: Rabbit, settings: Settings) -> None:
    # given
    settings.CELERY_AMQP_EXCHANGE_TYPE = "topic"
    settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "news.#"
    settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = "news.sports"

    # when
    Echo.delay(1)

    # then
    assert rabbit.get().delivery_info["routing_key"] == conf.AMQP_PUBLISHER_ROUTING_KEY == "news.sports"
    rabbit.server.exchange_declare(rabbit.exchange, type=conf.AMQP_EXCHANGE_TYPE, durable=True, auto_delete=False)
    rabbit.server.basic_publish(amqp.Message("x"), rabbit.exchange, "news.weather")
    assert rabbit.get().body == "x"
    assert conf.AMQP_CONSUMER_ROUTING_KEY == "news.#"


@row("AMQP_HOST", "AMQP_SERVER", "AMQP_PORT", "AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST")
def test_the_address_of_rabbitmq_is_put_together(settings: Settings) -> None:
    settings.CELERY_BROKER_URL = None
    assert conf.BROKER_URL == "django://"

    settings.AMQP_SERVER = "rabbit.example.com"
    assert conf.BROKER_URL == "amqp://guest:guest@rabbit.example.com:5672/%2F"

    settings.AMQP_HOST, settings.AMQP_PORT = "other.example.com", 5673
    settings.AMQP_USER, settings.AMQP_PASSWORD, settings.AMQP_VHOST = "ada", "a/b", "shop"
    assert conf.BROKER_URL == "amqp://ada:a%2Fb@other.example.com:5673/shop"
    assert type(broker.current()).__name__ == "AmqpBroker"


@row("AMQP_CONSUMER_QUEUE")
def test_the_queue_of_the_settings_is_where_messages_wait(bench: Worker, settings: Settings) -> None:
    settings.CELERY_AMQP_CONSUMER_QUEUE = "news"

    Echo.delay(1)

    assert Message.objects.get().queue == conf.AMQP_CONSUMER_QUEUE == "news"
    assert discard_all() == 1


# -- the daemon


@row("DAEMON_CONCURRENCY")
def test_the_daemon_has_as_many_children_as_the_setting_says(settings: Settings) -> None:
    settings.CELERYD_CONCURRENCY = 7

    assert celeryd.worker_options({}).children == conf.DAEMON_CONCURRENCY == 7


@row("QUEUE_WAKEUP_AFTER", "EMPTY_MSG_EMIT_EVERY")
@pytest.mark.parametrize("name", ["QUEUE_WAKEUP_AFTER", "EMPTY_MSG_EMIT_EVERY"])
def test_a_setting_without_a_meaning_is_named_once_by_the_checks(settings: Settings, name: str) -> None:
    setattr(settings, f"CELERYD_{name}", 2)

    assert getattr(conf, name) == 2
    (warning,) = [found for found in check_settings() if name in found.msg]
    assert (warning.id, "means nothing any more" in warning.msg) == ("celery.W010", True)


@row("LOG_FORMAT", "DEFAULT_LOG_FORMAT", "DAEMON_LOG_LEVEL", "LOG_LEVELS")
def test_the_log_has_the_form_and_level_of_the_settings(settings: Settings, tmp_path: Any, clean_log: None) -> None:
    # given
    assert "%(message)s" in conf.DEFAULT_LOG_FORMAT
    assert conf.LOG_FORMAT == conf.DEFAULT_LOG_FORMAT
    settings.CELERYD_DAEMON_LOG_FORMAT = "<%(levelname)s> %(message)s"
    settings.CELERYD_DAEMON_LOG_LEVEL = "warning"

    # when
    logger = log.setup_logger(logfile=str(tmp_path / "log"))
    logger.info("not told")
    logger.warning("told")

    # then
    assert (tmp_path / "log").read_text() == "<WARNING> told\n"
    assert logger.level == conf.LOG_LEVELS[conf.DAEMON_LOG_LEVEL.upper()] == logging.WARNING
    assert conf.LOG_LEVELS["DEBUG"] == logging.DEBUG


@row("DAEMON_LOG_LEVEL", "LOG_LEVELS")
@pytest.mark.parametrize("level", sorted(celery.conf.LOG_LEVELS))
def test_every_level_can_be_chosen(settings: Settings, level: str) -> None:
    settings.CELERYD_DAEMON_LOG_LEVEL = level

    assert celeryd.worker_options({"loglevel": level}).children
    assert conf.DAEMON_LOG_LEVEL in conf.LOG_LEVELS
    assert check_settings() == []


@row("SEND_CELERY_TASK_ERROR_EMAILS")
@pytest.mark.parametrize("setting", [True, False])
def test_failures_are_mailed_if_the_setting_says_so(settings: Settings, setting: bool) -> None:
    settings.ADMINS = ADMINS
    settings.SEND_CELERY_TASK_ERROR_EMAILS = setting

    mail._task_finished(name="seed.echo", task_id="x", state="FAILURE", error="no", traceback="")
    mail.flush()

    assert conf.SEND_CELERY_TASK_ERROR_EMAILS is setting
    assert len(django_mail.outbox) == int(setting)


# -- results


@row("CELERY_BACKEND")
def test_results_go_to_the_backend_of_the_settings(bench: Worker, settings: Settings) -> None:
    assert conf.CELERY_BACKEND == "database"
    settings.CELERY_BACKEND = "tests.memory_backend.MemoryBackend"

    result = Echo.delay("x")
    bench.run()

    assert result.get() == "x"
    assert isinstance(result.backend, MemoryBackend)
    assert not TaskMeta.objects.exists()


@row("CELERY_PERIODIC_STATUS_BACKEND")
def test_periodic_tasks_are_sent_by_the_backend_of_the_settings(db: None, settings: Settings) -> None:
    # given
    made = type("Made", (PeriodicTask,), {"name": "seed.tick", "run_every": 3600, "run": lambda self: None})
    tasks.register(made)
    assert conf.CELERY_PERIODIC_STATUS_BACKEND == "database"

    # then
    assert backends.default_periodic_status_backend.run_periodic_tasks() >= 0
    assert PeriodicTaskMeta.objects.filter(name="seed.tick").exists()
    settings.CELERY_PERIODIC_STATUS_BACKEND = "tests.memory_backend.MemoryBackend"
    with pytest.raises(CommandError, match="cannot keep the state of periodic tasks"):
        celeryd.worker_options({})


@row("CELERY_TASK_RESULT_EXPIRES")
@pytest.mark.parametrize(
    ("setting", "expired"), [(None, ["old"]), (timedelta(days=2), ["old", "young"]), (2 * 86400, ["old", "young"])]
)
def test_results_expire_after_the_time_of_the_settings(settings: Settings, setting: Any, expired: list[str]) -> None:
    # given
    settings.CELERY_TASK_RESULT_EXPIRES = setting
    for task_id, age in (("old", 6), ("young", 3), ("new", 1)):
        done = datetime.now(UTC) - timedelta(days=age)
        backends.default().store([Result(task_id=task_id, state="DONE", date_done=done)])

    # when
    count = backends.default().cleanup()

    # then
    assert count == len(expired)
    assert not TaskMeta.objects.filter(task_id__in=expired).exists()
    assert (setting or timedelta(days=5)) == conf.CELERY_TASK_RESULT_EXPIRES


@row("CELERY_ALWAYS_EAGER")
def test_tasks_run_where_they_are_sent_if_the_setting_says_so(settings: Settings) -> None:
    assert conf.CELERY_ALWAYS_EAGER is False
    settings.CELERY_ALWAYS_EAGER = True

    result = Echo.delay(("a", "tuple"))

    assert result.get() == ["a", "tuple"]
    assert not Message.objects.exists()


@row("TT_HOST", "TT_PORT")
def test_tyrant_is_where_the_settings_say(settings: Settings) -> None:
    with StandIn(HASH) as server:
        settings.TT_HOST, settings.TT_PORT = "127.0.0.1", server.port
        assert ("127.0.0.1", server.port) == (conf.TT_HOST, conf.TT_PORT)

        TyrantBackend().mark_as_done("x", 1)

        assert TyrantBackend().get_result("x") == 1
        assert server.accepted
    settings.TT_PORT = "no number"
    with pytest.raises(ImproperlyConfigured, match="TT_PORT"):
        TyrantBackend().get_server()
