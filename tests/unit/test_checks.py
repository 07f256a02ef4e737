import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.db import connections
from django.db.models import Model
from django.urls import clear_url_caches, include, path
from pytest_django import Settings

import celery.checks
from celery import apps, broker, conf
from celery.bin.options import VARIABLES
from celery.bin.values import LEAST_MEMORY
from celery.broker import store
from celery.checks import worker
from celery.checks.settings import OF_CELERY
from celery.registry import tasks
from celery.task import Task
from celery.worker import deadlines, relay
from tests.shop import urls

RABBIT = "amqp://shop:secret@rabbit.example.org/shop"
WITH_PASSWORD = "amqp://shop:s3cret@p@ss@rabbit:5672/%2F"


def found(*, deploy: bool = False) -> list[CheckMessage]:
    """Run the checks as `manage.py check` does."""
    return checks.run_checks(tags=["celery"], include_deployment_checks=deploy)


def ids() -> list[str]:
    return sorted(message.id or "" for message in found())


def deployed() -> set[str]:
    return {str(message.id) for message in found(deploy=True)}


def only(identity: str) -> CheckMessage:
    (message,) = [message for message in found() if message.id == identity]
    return message


@pytest.fixture(autouse=True)
def _no_tasks_of_others() -> None:
    """Only what a test registers is checked; who else imports tasks depends on the order of the tests."""
    tasks.clear()


class Other:
    """Takes a database's place in `connections`, for what cannot be had here."""

    def __init__(self, vendor: str = "sqlite", version: tuple[int, ...] = (3, 45, 0), **configured: Any) -> None:
        self.vendor = vendor
        self.settings_dict = {"NAME": "shop.sqlite3", "OPTIONS": {}} | configured
        self.Database = self
        self.sqlite_version_info = version
        self.sqlite_version = ".".join(map(str, version))
        self.alias = "other"


@pytest.fixture
def other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the queue's database one of the given kind."""

    def replace(*args: Any, **configured: Any) -> None:
        monkeypatch.setitem(connections.settings, "other", {**connections.settings["default"]})
        connections["other"] = Other(*args, **configured)  # type: ignore[assignment]
        settings.CELERY_BROKER_URL = "django://other"

    yield replace
    if "other" in connections.settings:
        del connections["other"]


class TestAProjectInOrder:
    def test_has_nothing_to_hear(self) -> None:
        assert found() == []

    def test_hears_of_the_tuning_when_it_is_deployed(self) -> None:
        (message,) = found(deploy=True)

        assert (message.id, message.level) == ("celery.I001", checks.INFO)
        assert message.hint is not None
        assert "CELERY_SQLITE_TUNING = False" in message.hint

    def test_opens_no_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(connections["default"]), "connect", lambda _: pytest.fail("it connected"))

        found(deploy=True)

    def test_as_startproject_writes_it_hears_nothing(self, plain_project: "Project") -> None:
        assert plain_project.check() == "System check identified no issues (0 silenced).\n"


class TestInstalled:
    def test_the_application_brings_the_checks(self, plain_project: "Project") -> None:
        plain_project.write("CELERY_XYZZY = 1")

        assert "(celery.E001) CELERY_XYZZY is not a setting of celery." in plain_project.check()


class Project:
    """What `startproject` writes, with our application."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        call_command("startproject", "plain", folder)
        self.write("INSTALLED_APPS.append('celery')")

    def write(self, line: str) -> None:
        with (self._folder / "plain" / "settings.py").open("a") as settings:
            settings.write(f"{line}\n")

    def check(self) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(self._folder), *sys.path])}
        command = [sys.executable, "-m", "django", "check", "--settings", "plain.settings"]
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def plain_project(tmp_path: Path) -> Project:
    """A new project that has only our application added."""
    return Project(tmp_path)


class TestUnknownSettings:
    def test_a_typing_error_is_answered_with_the_nearest_name(self, settings: Settings) -> None:
        settings.CELERY_BAKEND = "database"

        message = only("celery.E001")

        assert message.msg == "CELERY_BAKEND is not a setting of celery."
        assert message.hint == "Did you mean CELERY_BACKEND?"

    def test_a_name_like_no_other_is_answered_with_all_names(self, settings: Settings) -> None:
        settings.CELERY_XYZZY = 1

        assert "CELERYD_CONCURRENCY" in str(only("celery.E001").hint)

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("CELERYD_SOCKET", "It is an option of celeryd, --socket, and a variable of its environment; no setting."),
            ("CELERYD_NAME", "It is an option of celeryd, --name, and a variable of its environment; no setting."),
            ("CELERYD_DETACH", "It is an option of celeryd, --detach, and a variable of its environment; no setting."),
            ("CELERYD_QUEUES", " --queues, and a variable of its environment; no setting. The setting is CELERY_AMQP_"),
            ("CELERYD_NO_BEAT", "no setting. The setting is CELERYD_BEAT."),
            ("CELERYD_LOGLEVEL", "no setting. The setting is CELERYD_DAEMON_LOG_LEVEL."),
            (
                "CELERY_TIMEZONE",
                "It is a setting of Celery 5 or earlier; here there is none: Django's TIME_ZONE counts,",
            ),
            ("CELERY_TASK_ALWAYS_EAGER", "here write CELERY_ALWAYS_EAGER."),
            ("CELERY_RESULT_BACKEND", "here write CELERY_BACKEND, which is 'database', 'cache' or 'tyrant'."),
        ],
    )
    def test_options_and_the_settings_of_celery_5_are_answered_with_what_they_are_here(
        self, settings: Settings, name: str, hint: str
    ) -> None:
        setattr(settings, name, 2)

        assert hint in str(only("celery.E001").hint)

    @pytest.mark.parametrize("name", sorted({*VARIABLES} - {*conf.BY_NAME}))
    def test_each_variable_of_an_option_is_known_as_one(self, settings: Settings, name: str) -> None:
        setattr(settings, name, 2)

        assert "It is an option of celeryd, --" in str(only("celery.E001").hint)

    def test_what_is_said_of_settings_of_celery_5_names_settings_of_ours(self) -> None:
        named = set(re.findall(r"CELERYD?_\w+", " ".join(OF_CELERY.values())))

        assert named <= set(conf.BY_NAME)
        assert not set(OF_CELERY) & (set(conf.BY_NAME) | set(VARIABLES))

    def test_each_setting_on_the_page_for_those_who_know_celery_5_has_its_answer(self) -> None:
        page = Path("docs/from_celery5.rst").read_text(encoding="utf-8")
        theirs = set(re.findall(r"^   \* - .*$", page, re.MULTILINE))
        names = {name for line in theirs for name in re.findall(r"``(CELERYD?_\w+)", line)}

        assert len(names) > 15
        assert names <= {*OF_CELERY, *conf.BY_NAME, "CELERY_"}

    @pytest.mark.parametrize("name", ["CELERYD_CONCURENCY", "CELERYD_XYZZY"])
    def test_the_settings_of_the_daemon_are_checked_too(self, settings: Settings, name: str) -> None:
        setattr(settings, name, 2)

        assert ids() == ["celery.E001"]

    @pytest.mark.parametrize("name", ["CELERYBEAT_X", "SHOP_CELERY_X", "celery_x", "AMQP_HOSTNAME"])
    def test_the_settings_of_others_are_theirs(self, settings: Settings, name: str) -> None:
        setattr(settings, name, 2)

        assert ids() == []


class TestWrongValues:
    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("CELERYD_CONCURRENCY", "4", "CELERYD_CONCURRENCY = '4' is of type str; it must be of type int."),
            ("CELERYD_CONCURRENCY", True, "CELERYD_CONCURRENCY = True is of type bool; it must be of type int."),
            ("CELERYD_CONCURRENCY", 2.0, "CELERYD_CONCURRENCY = 2.0 is of type float; it must be of type int."),
            ("CELERYD_LEASE", True, "CELERYD_LEASE = True is of type bool; it must be of type int or float."),
            ("CELERY_SQLITE_TUNING", 1, "CELERY_SQLITE_TUNING = 1 is of type int; it must be of type bool."),
            (
                "CELERY_ACCEPT_CONTENT",
                "json",
                "CELERY_ACCEPT_CONTENT = 'json' is of type str; it must be of type list or tuple or set.",
            ),
            ("CELERY_BACKEND", b"x", "CELERY_BACKEND = b'x' is of type bytes; it must be of type str."),
        ],
    )
    def test_a_wrong_type_is_told_with_value_and_types(
        self, settings: Settings, name: str, value: object, text: str
    ) -> None:
        setattr(settings, name, value)

        message = only("celery.E002")

        assert message.msg == text
        assert str(message.hint).startswith(conf.BY_NAME[name].sentence)

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            (
                "CELERY_QUEUE_TYPE",
                "fast",
                "CELERY_QUEUE_TYPE = 'fast' is not allowed; it must be one of 'classic', 'quorum'.",
            ),
            ("CELERYD_CONCURRENCY", 0, "CELERYD_CONCURRENCY = 0 is not allowed; it must be at least 1."),
            ("CELERY_PUBLISH_TIMEOUT", 0.05, "CELERY_PUBLISH_TIMEOUT = 0.05 is not allowed; it must be at least 0.1."),
            (
                "CELERYD_LEASE",
                float("inf"),
                "CELERYD_LEASE = inf is not allowed; it must be at most 315,360,000.",
            ),
            ("CELERYD_LEASE", float("nan"), "CELERYD_LEASE = nan is not allowed; it must be at least 1."),
            (
                "CELERY_TASK_RESULT_EXPIRES",
                timedelta(0),
                "CELERY_TASK_RESULT_EXPIRES = datetime.timedelta(0) is not allowed; it must be at least 1.",
            ),
        ],
    )
    def test_a_value_that_cannot_be_is_told_with_what_can(
        self, settings: Settings, name: str, value: object, text: str
    ) -> None:
        setattr(settings, name, value)

        assert only("celery.E003").msg == text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CELERYD_LEASE", 20),
            ("CELERYD_CONCURRENCY", 1),
            ("CELERY_BACKEND", None),
            ("CELERY_TASK_RESULT_EXPIRES", timedelta(hours=1)),
            ("CELERY_TASK_RESULT_EXPIRES", 3600),
            ("CELERYD_DAEMON_LOG_LEVEL", "debug"),
        ],
    )
    def test_what_the_table_allows_is_no_trouble(self, settings: Settings, name: str, value: object) -> None:
        setattr(settings, name, value)

        assert ids() == []

    def test_every_wrong_setting_is_told_at_once(self, settings: Settings) -> None:
        settings.CELERYD_LEASE = "long"
        settings.CELERYD_CONCURRENCY = 0
        settings.CELERY_BAKEND = "x"

        assert ids() == ["celery.E001", "celery.E002", "celery.E003"]

    def test_the_password_of_a_url_is_not_shown(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = [WITH_PASSWORD]

        assert "p@ss" not in str(only("celery.E002"))

    def test_a_very_long_value_is_cut(self, settings: Settings) -> None:
        settings.CELERYD_CONCURRENCY = "x" * 10_000

        assert len(only("celery.E002").msg) < 300

    def test_a_password_is_not_shown(self, settings: Settings) -> None:
        settings.AMQP_PASSWORD = 12345

        assert "12345" not in str(only("celery.E002"))


class TestSettingsOf02:
    @pytest.mark.parametrize("name", conf.MEANINGLESS)
    def test_one_that_means_nothing_any_more_is_a_warning(self, settings: Settings, name: str) -> None:
        setattr(settings, name, 1)

        message = only("celery.W010")

        assert message.level == checks.WARNING
        assert message.msg.startswith(f"{name} means nothing any more")
        assert ids() == ["celery.W010"]

    @pytest.mark.parametrize("key", ["PUBLISHER", "CONSUMER"])
    def test_a_routing_key_that_leads_nowhere_is_a_warning(self, settings: Settings, key: str) -> None:
        settings.CELERY_BROKER_URL = "amqp://rabbit/"
        setattr(settings, f"CELERY_AMQP_{key}_ROUTING_KEY", "shop")

        assert only("celery.W011").level == checks.WARNING

    def test_routing_keys_that_are_the_same_are_no_trouble(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "amqp://rabbit/"
        settings.CELERY_AMQP_PUBLISHER_ROUTING_KEY = settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "shop"

        assert ids() == []

    def test_a_topic_exchange_may_have_a_pattern(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "amqp://rabbit/"
        settings.CELERY_AMQP_EXCHANGE_TYPE = "topic"
        settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "shop.#"

        assert ids() == []

    def test_the_database_has_no_routing_keys(self, settings: Settings) -> None:
        settings.CELERY_AMQP_CONSUMER_ROUTING_KEY = "shop"

        assert ids() == []


class TestViews:
    @pytest.fixture(autouse=True)
    def _urls_as_before(self) -> Iterator[None]:
        clear_url_caches()
        yield
        clear_url_caches()

    def test_open_ones_are_told_when_the_project_is_deployed(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urls, "urlpatterns", [*urls.urlpatterns, path("tasks/", include("celery.urls"))])

        assert "celery.W012" in [message.id for message in found(deploy=True)]
        assert ids() == []

        settings.CELERY_VIEWS_PERMISSION = "builtins.bool"
        assert "celery.W012" not in [message.id for message in found(deploy=True)]

    def test_a_urlconf_that_cannot_be_imported_is_told_by_django_alone(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = "nowhere"

        assert "celery.W012" not in [message.id for message in found(deploy=True)]

    def test_a_project_without_urls_shows_none(self, settings: Settings) -> None:
        del settings.ROOT_URLCONF

        assert "celery.W012" not in deployed()

    @pytest.mark.parametrize("name", ["nowhere.nobody", "celery.conf.SETTINGS", "celery.conf.nobody"])
    def test_a_permission_that_cannot_be_had_is_told(self, settings: Settings, name: str) -> None:
        settings.CELERY_VIEWS_PERMISSION = name

        assert only("celery.E010").level == checks.ERROR

    def test_one_that_can_be_had_is_no_trouble(self, settings: Settings) -> None:
        settings.CELERY_VIEWS_PERMISSION = "builtins.bool"

        assert ids() == []


class TestSerializers:
    @pytest.mark.parametrize(
        ("name", "value"), [("CELERY_TASK_SERIALIZER", "jsn"), ("CELERY_ACCEPT_CONTENT", ["json", "jsn"])]
    )
    def test_one_that_kombu_does_not_have_is_told(self, settings: Settings, name: str, value: object) -> None:
        setattr(settings, name, value)

        message = only("celery.E003")

        assert message.msg == f"{name} names the serializer 'jsn', which kombu does not have."
        assert "'json'" in str(message.hint)

    @pytest.mark.parametrize("value", [[["json"], "json"], [7, "json"]])
    def test_what_is_no_name_at_all_is_told(self, settings: Settings, value: object) -> None:
        settings.CELERY_ACCEPT_CONTENT = value

        assert ids() == ["celery.E003"]

    def test_sending_what_no_worker_accepts_is_a_warning_with_the_line_to_write(self, settings: Settings) -> None:
        settings.CELERY_TASK_SERIALIZER = "pickle"

        message = only("celery.W003")

        assert message.level == checks.WARNING
        assert message.hint == "Write CELERY_ACCEPT_CONTENT = ['json', 'pickle']."

    @pytest.mark.parametrize("accepted", ["pickle", "application/x-python-serialize"])
    def test_sending_what_workers_accept_is_no_trouble(self, settings: Settings, accepted: str) -> None:
        settings.CELERY_TASK_SERIALIZER = "pickle"
        settings.CELERY_ACCEPT_CONTENT = {accepted}

        assert ids() == []


class TestBroker:
    @pytest.mark.parametrize("url", ["", "django", "kafka://host", "DJANGO:/", "://x", "rabbit:5672"])
    def test_an_unknown_scheme_is_told_with_the_known_ones(self, settings: Settings, url: str) -> None:
        settings.CELERY_BROKER_URL = url

        message = only("celery.E004")

        assert "which no broker has" in message.msg
        assert "django://, amqp://" in str(message.hint)

    def test_a_package_that_is_missing_is_told_with_the_command_that_brings_it(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(broker.SCHEMES, "redis", "celery_without_packages.RedisBroker")
        settings.CELERY_BROKER_URL = "redis://nowhere/7"

        message = only("celery.E004").msg

        assert "No module named 'celery_without_packages'" in message
        assert message.endswith("run `pip install redis`.")

    def test_a_database_that_is_not_configured_is_told_with_those_that_are(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "django://nowhere"

        assert "names the database 'nowhere'; DATABASES has: default" in only("celery.E004").msg

    @pytest.mark.parametrize("url", ["amqp://shop:p/ss@rabbit/", "amqp://shop:s3cret@rabbit:port/", "amqp://[rabbit"])
    def test_what_is_no_url_is_told_without_its_password(self, settings: Settings, url: str) -> None:
        settings.CELERY_BROKER_URL = url

        message = only("celery.E004")

        assert "is not a URL: in a password, write @ as %40, / as %2F, : as %3A, # as %23 and ? as %3F." in message.msg
        assert "s3cret" not in message.msg
        assert "p/ss" not in message.msg

    def test_an_unknown_scheme_is_told_without_the_password(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = WITH_PASSWORD.replace("amqp", "kafka")

        message = only("celery.E004").msg

        assert "kafka://***@rabbit" in message
        assert "p@ss" not in message

    def test_the_settings_of_0_2_are_checked_as_the_url_that_they_make(self, settings: Settings) -> None:
        del settings.CELERY_BROKER_URL
        settings.AMQP_HOST = "rabbit"
        settings.AMQP_PORT = "many"

        assert ids() == ["celery.E012"]


class TestBackend:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nowhere.Backend", "No module named 'nowhere'"),
            ("databse", "doesn't look like a module path|No module named"),
            ("celery.backends.base.NoSuchBackend", "NoSuchBackend"),
            ("celery.conf", "Backend"),
            ("decimal.Decimal", "is not a result backend"),
            ("celery.backends.base.BaseBackend", "abstract"),
            ("", "cannot be had"),
        ],
    )
    def test_one_that_cannot_be_had_is_told_with_the_reason(self, settings: Settings, name: str, reason: str) -> None:
        settings.CELERY_BACKEND = name

        message = only("celery.E005")

        assert f"CELERY_BACKEND = {name!r}" in message.msg
        assert "'database'" in str(message.hint)
        assert re.search(reason, message.msg)

    def test_the_backend_itself_is_no_trouble(self, settings: Settings) -> None:
        settings.CELERY_BACKEND = "celery.backends.database.Backend"

        assert ids() == []


class TestDatabases:
    def test_a_kind_that_is_not_supported_is_told(self, other: Any) -> None:
        other("oracle")

        message = only("celery.E006")

        assert (
            message.msg
            == "DATABASES['other'], where messages would be kept, is of the kind 'oracle', which is not supported."
        )
        assert all(vendor in str(message.hint) for vendor in store.DIALECTS)

    def test_no_database_at_all_is_told(self, other: Any) -> None:
        other("unknown")

        assert ids() == ["celery.E006"]

    def test_an_old_sqlite_is_told(self, other: Any) -> None:
        other(version=(3, 34, 1))

        assert only("celery.E007").msg.startswith("SQLite 3.34.1 is too old")

    @pytest.mark.parametrize("mode", ["DEFERRED", "deferred", "EXCLUSIVE", None])
    def test_another_transaction_mode_is_a_warning(self, other: Any, mode: str | None) -> None:
        other(OPTIONS={"transaction_mode": mode})

        message = only("celery.W001")

        assert message.level == checks.WARNING
        assert message.hint == "Write DATABASES['other']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE'}."

    @pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate"])
    def test_the_right_transaction_mode_is_no_trouble(self, other: Any, mode: str) -> None:
        other(OPTIONS={"transaction_mode": mode})

        assert ids() == []

    def test_forbidding_the_tuning_without_doing_it_is_a_warning(self, other: Any, settings: Settings) -> None:
        settings.CELERY_SQLITE_TUNING = False

        other()

        assert {"celery.W001"} == set(ids())

    @pytest.mark.parametrize("name", [":memory:", "file:shop?mode=memory&cache=shared"])
    def test_a_queue_in_memory_is_a_warning(self, other: Any, name: str) -> None:
        other(NAME=name)

        assert only("celery.W002").level == checks.WARNING

    @pytest.mark.parametrize(
        "name", ["shop.sqlite3", Path("shop.sqlite3"), "file:memorydb_default?mode=memory&cache=shared"]
    )
    def test_a_file_and_the_database_of_the_test_runner_are_no_trouble(self, other: Any, name: object) -> None:
        other(NAME=name)

        assert ids() == []

    def test_results_in_memory_are_nobodys_queue(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "NAME", ":memory:")
        monkeypatch.setattr(celery.checks.places, "url_trouble", lambda _: "is elsewhere")
        settings.CELERY_BROKER_URL = "amqp://rabbit"

        assert "celery.W002" not in ids()


class Elsewhere:
    """A database router that keeps results, or messages too, in the database `other`."""

    models: tuple[str, ...] = ("taskmeta",)

    def db_for_write(self, model: type[Model], **_: Any) -> str | None:
        return "other" if model._meta.model_name in self.models else None


class AllElsewhere(Elsewhere):
    models = ("taskmeta", "message")


class Forbidding:
    """A database router that lets nobody create tables."""

    def allow_migrate(self, *_: Any, **__: Any) -> bool:
        return False


class TestSeveralDatabases:
    @pytest.fixture(autouse=True)
    def _other(self, other: Any, settings: Settings) -> None:
        other()
        settings.CELERY_BROKER_URL = "django://"

    def test_results_elsewhere_are_told_when_the_project_is_deployed(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [Elsewhere()]

        (message,) = [message for message in found(deploy=True) if message.id == "celery.I002"]

        assert message.msg.startswith("Results are kept in DATABASES['other'], messages in DATABASES['default']")
        assert ids() == []

    def test_messages_in_rabbitmq_share_a_commit_with_no_result(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [Elsewhere()]
        settings.CELERY_BROKER_URL = RABBIT

        assert "celery.I002" not in deployed()

    def test_messages_elsewhere_are_told_when_the_project_is_deployed(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [AllElsewhere()]

        assert "celery.I003" in deployed()
        assert "celery.I002" not in deployed()
        assert ids() == []

    def test_an_alias_in_the_url_counts_like_a_router(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = "django://other"

        assert {"celery.I002", "celery.I003"} <= deployed()

    def test_tables_that_no_migration_may_create_are_told_one_by_one(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [Forbidding()]

        texts = [message.msg for message in found() if message.id == "celery.W021"]

        assert any("celery.TaskMeta in DATABASES['default']" in text for text in texts)
        assert any("celery.Worker in DATABASES['default']" in text for text in texts)
        assert not any("Overview" in text for text in texts)


class TestTheAddressAsIn02:
    @pytest.fixture(autouse=True)
    def _no_url(self, settings: Settings) -> None:
        del settings.CELERY_BROKER_URL

    @pytest.mark.parametrize("host", ["rabbit", "rabbit.example.org", "10.0.0.1", "[::1]", "r\u00e4bbit"])
    @pytest.mark.parametrize("port", [5672, "5673", None, ""])
    def test_one_that_can_be_is_no_trouble(self, settings: Settings, host: str, port: object) -> None:
        settings.AMQP_HOST, settings.AMQP_PORT = host, port

        assert ids() == []

    def test_the_other_name_of_the_host_is_named(self, settings: Settings) -> None:
        settings.AMQP_SERVER = "rabbit:5672"

        assert only("celery.E012").msg == "AMQP_SERVER = 'rabbit:5672' is not the name of a host."

    def test_a_user_without_a_host_is_a_warning(self, settings: Settings) -> None:
        settings.AMQP_USER = settings.AMQP_PASSWORD = "shop"

        message = only("celery.W014").msg

        assert message == "AMQP_USER and AMQP_PASSWORD mean nothing without AMQP_HOST: messages wait in the database."

    def test_two_hosts_are_a_warning(self, settings: Settings) -> None:
        settings.AMQP_HOST, settings.AMQP_SERVER = "rabbit", "hare"

        assert only("celery.W014").msg.startswith("AMQP_SERVER means nothing beside AMQP_HOST")

    @pytest.mark.parametrize("url", ["django://", "amqp://hare/shop", "amqp:///shop", "redis://rabbit"])
    def test_a_url_that_leads_elsewhere_is_a_warning(self, settings: Settings, url: str) -> None:
        settings.AMQP_HOST, settings.CELERY_BROKER_URL = "rabbit", url

        assert only("celery.W014").msg.startswith("AMQP_HOST means nothing beside CELERY_BROKER_URL")

    @pytest.mark.parametrize("url", ["amqp://rabbit/shop", "amqps://shop:p%40@Rabbit:5671"])
    def test_a_url_that_leads_to_the_same_host_is_no_trouble(self, settings: Settings, url: str) -> None:
        settings.AMQP_HOST, settings.CELERY_BROKER_URL = "rabbit", url

        assert ids() == []

    def test_the_case_of_a_host_says_nothing(self, settings: Settings) -> None:
        settings.AMQP_HOST, settings.CELERY_BROKER_URL = "RABBIT", "amqp://Rabbit/shop"

        assert ids() == []

    @pytest.mark.parametrize("url", ["amqp://rabbit:port", "amqp://[rabbit"])
    def test_a_broken_url_is_told_once(self, settings: Settings, url: str) -> None:
        settings.AMQP_HOST, settings.CELERY_BROKER_URL = "rabbit", url

        assert ids() == ["celery.E004"]


class TestRabbitMQ:
    @pytest.fixture(autouse=True)
    def _rabbit(self, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = RABBIT

    def test_quorum_queues_with_priorities_are_refused(self, settings: Settings) -> None:
        settings.CELERY_QUEUE_TYPE, settings.CELERY_QUEUE_MAX_PRIORITY = "quorum", 9

        assert ids() == ["celery.E015"]

    @pytest.mark.parametrize("kind", ["fanout", "headers"])
    def test_an_exchange_that_copies_is_a_warning(self, settings: Settings, kind: str) -> None:
        settings.CELERY_AMQP_EXCHANGE_TYPE = kind

        assert ids() == ["celery.W015"]

    @pytest.mark.parametrize(
        ("name", "kind"), [("celery", "direct"), ("amq.direct", "direct"), ("amq.topic", "topic"), ("shop", "x-random")]
    )
    def test_an_exchange_that_can_be_is_no_trouble(self, settings: Settings, name: str, kind: str) -> None:
        settings.CELERY_AMQP_EXCHANGE, settings.CELERY_AMQP_EXCHANGE_TYPE = name, kind

        assert ids() == []

    def test_the_exchange_of_the_server_has_the_type_of_its_name(self, settings: Settings) -> None:
        settings.CELERY_AMQP_EXCHANGE, settings.CELERY_AMQP_EXCHANGE_TYPE = "amq.direct", "topic"

        assert ids() == ["celery.E014"]

    def test_larger_messages_than_usual_are_told_when_the_project_is_deployed(self, settings: Settings) -> None:
        settings.CELERY_MESSAGE_MAX_BYTES = 16 * 1024 * 1024 + 1

        assert "celery.W016" in deployed()
        assert ids() == []

    def test_its_settings_mean_something(self, settings: Settings) -> None:
        settings.CELERY_QUEUE_TYPE = "quorum"

        assert not deployed() & {"celery.W016", "celery.W017"}


class TestAnotherBroker:
    def test_a_name_that_only_rabbitmq_refuses_is_no_trouble(self, settings: Settings) -> None:
        settings.CELERY_AMQP_CONSUMER_QUEUE = "amq.shop"

        assert ids() == []

    @pytest.mark.parametrize(("name", "value"), [("CELERY_QUEUE_TYPE", "quorum"), ("CELERY_QUEUE_MAX_PRIORITY", 9)])
    def test_settings_of_rabbitmq_are_told_when_the_project_is_deployed(
        self, settings: Settings, name: str, value: object
    ) -> None:
        setattr(settings, name, value)

        assert "celery.W017" in deployed()
        assert ids() == []


class TestPickle:
    @pytest.mark.parametrize("name", ["pickle", "application/x-python-serialize"])
    def test_reading_it_is_told_when_the_project_is_deployed(self, settings: Settings, name: str) -> None:
        settings.CELERY_ACCEPT_CONTENT = ["json", name]

        assert "celery.W018" in deployed()
        assert ids() == []


class TestFilesAndLog:
    def test_one_file_for_two_purposes_is_refused(self, settings: Settings) -> None:
        settings.CELERYD_LOG_FILE = settings.CELERYD_PID_FILE = "celeryd.txt"

        assert ids() == ["celery.E016"]

    def test_a_path_that_is_too_long_is_refused(self, settings: Settings) -> None:
        settings.CELERYD_PID_FILE = "x" * 5000

        assert ids() == ["celery.E016"]

    def test_a_folder_that_is_not_there_may_be_on_the_workers_machine(self, settings: Settings) -> None:
        settings.CELERYD_LOG_FILE = "/nowhere/log/celeryd.log"

        assert ids() == []

    @pytest.mark.parametrize(
        "form", ["json", "%(message)s", "%(asctime)s %(name)s %(process)d %(levelname)-8s %(message)s", ""]
    )
    def test_a_format_that_works_is_no_trouble(self, settings: Settings, form: str) -> None:
        settings.CELERYD_DAEMON_LOG_FORMAT = form

        assert ids() == []

    @pytest.mark.parametrize("mask", ["022", "0o27", 0o77, 0])
    def test_a_umask_is_no_trouble(self, settings: Settings, mask: object) -> None:
        settings.CELERYD_UMASK = mask

        assert ids() == []

    @pytest.mark.parametrize(
        ("mask", "meant", "now"), [(27, "027", "033"), (22, "022", "026"), (77, "077", "115"), (37, "037", "045")]
    )
    def test_a_decimal_umask_that_reads_like_an_octal_one_is_told_with_both(
        self, settings: Settings, mask: int, meant: str, now: str
    ) -> None:
        settings.CELERYD_UMASK = mask

        message = only("celery.W024")

        assert message.msg == f"CELERYD_UMASK = {mask} is a decimal number, and as a umask {now}; {meant} may be meant."
        assert message.hint == f"Write it in octal: CELERYD_UMASK = '{meant}', or '{now}' for what it is now."

    @pytest.mark.parametrize("mask", ["27", "033", 0, 2, 7, 0o22, 0o27, 0o37, 0o67, 0o77, 0o177, 0o222, 0o72])
    def test_text_and_usual_umasks_are_no_trouble(self, settings: Settings, mask: object) -> None:
        settings.CELERYD_UMASK = mask

        assert ids() == []


class TestLimits:
    @pytest.mark.parametrize("soft", [60, 61.5])
    def test_a_soft_limit_that_never_comes_is_refused(self, settings: Settings, soft: float) -> None:
        settings.CELERYD_TASK_TIME_LIMIT, settings.CELERYD_TASK_SOFT_TIME_LIMIT = 60, soft

        assert ids() == ["celery.E018"]

    def test_a_soft_limit_before_the_hard_one_is_no_trouble(self, settings: Settings) -> None:
        settings.CELERYD_TASK_TIME_LIMIT, settings.CELERYD_TASK_SOFT_TIME_LIMIT = 60, 59.5

        assert ids() == []

    def test_memory_that_was_meant_in_mib_is_refused_with_the_line_to_write(self, settings: Settings) -> None:
        settings.CELERYD_MAX_MEMORY_PER_CHILD = 1024

        assert only("celery.E019").hint == "For 1024 MiB write CELERYD_MAX_MEMORY_PER_CHILD = 1024 * 1024."

    def test_memory_for_a_child_is_no_trouble(self, settings: Settings) -> None:
        settings.CELERYD_MAX_MEMORY_PER_CHILD = LEAST_MEMORY

        assert ids() == []


class TestLease:
    @pytest.mark.parametrize(("lease", "is_short"), [(19.9, True), (20, False), (30, False)])
    def test_it_is_compared_with_the_wait_for_a_lock_of_sqlite(
        self, settings: Settings, lease: float, is_short: bool
    ) -> None:
        settings.CELERYD_LEASE = lease

        assert ids() == ["celery.W020"] * is_short

    def test_another_wait_in_the_options_counts(self, other: Any, settings: Settings) -> None:
        settings.CELERY_BACKEND = "tests.memory_backend.MemoryBackend"
        settings.CELERYD_LEASE = 10

        other(OPTIONS={"timeout": 9})

        assert "celery.W020" not in ids()

    def test_it_is_compared_with_a_broker_that_does_not_answer(self, settings: Settings) -> None:
        settings.CELERY_PUBLISH_TIMEOUT = 60
        assert ids() == []

        settings.CELERY_BROKER_URL = RABBIT
        message = only("celery.W020")

        assert "for 62 s" in message.msg
        assert str(message.hint).startswith("Write CELERYD_LEASE = 93 or more")

    def test_what_it_is_compared_with_is_what_the_code_does(self) -> None:
        assert relay.SLICE == worker.SLICE
        assert worker.SQLITE_TIMEOUTS[True] == apps.SQLITE_TIMEOUT
        assert worker.ANSWER == deadlines.ANSWER


class TestErrorEmails:
    def test_those_that_are_asked_for_and_have_no_reader_are_a_warning(self, settings: Settings) -> None:
        settings.SEND_CELERY_TASK_ERROR_EMAILS, settings.ADMINS = True, []

        assert ids() == ["celery.W019"]

    def test_those_that_are_on_by_default_are_no_trouble(self, settings: Settings) -> None:
        settings.DEBUG, settings.ADMINS = False, []

        assert conf.SEND_CELERY_TASK_ERROR_EMAILS
        assert ids() == []

    def test_those_with_a_reader_are_no_trouble(self, settings: Settings) -> None:
        settings.SEND_CELERY_TASK_ERROR_EMAILS = True
        settings.ADMINS = ["ops@example.org"]

        assert ids() == []


def register(**options: Any) -> None:
    """Register a task with these options."""
    cls: Any = type("Pay", (Task,), {"name": "orders.pay", "run": lambda _: None, **options})
    tasks.register(cls)


class TestTasks:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("queue", " "),
            ("queue", "a,b"),
            ("queue", 7),
            ("routing_key", " mail"),
            ("priority", "high"),
            ("priority", True),
            ("priority", 10**6),
            ("serializer", "jsn"),
            ("serializer", 7),
            ("time_limit", "5"),
            ("time_limit", -1),
            ("time_limit", float("nan")),
            ("soft_time_limit", True),
            ("soft_time_limit", timedelta(seconds=5)),
        ],
    )
    def test_an_option_that_cannot_be_is_told_with_one_that_can(self, option: str, value: object) -> None:
        register(**{option: value})

        message = only("celery.E021")

        assert message.msg.startswith(f"The task 'orders.pay' has {option} = {value!r}, which ")
        assert str(message.hint).startswith(f"Write {option} = ")
        assert ids() == ["celery.E021"]

    @pytest.mark.parametrize("option", ["queue", "routing_key", "serializer"])
    def test_an_empty_option_counts_as_not_set(self, option: str) -> None:
        register(**{option: ""})

        assert ids() == []

    def test_options_that_can_be_are_no_trouble(self) -> None:
        register(queue="mail", priority=-5, serializer="json", time_limit=60, soft_time_limit=50.5)

        assert ids() == []

    def test_two_limits_of_a_task_that_contradict_are_refused(self) -> None:
        register(time_limit=60, soft_time_limit=60)

        assert only("celery.E018").msg.startswith("The task 'orders.pay': its soft_time_limit = 60 never comes")

    @pytest.mark.parametrize(
        ("options", "given"),
        [
            ({"soft_time_limit": 300}, {"CELERYD_TASK_TIME_LIMIT": 60}),
            ({"time_limit": 60}, {"CELERYD_TASK_SOFT_TIME_LIMIT": 300}),
        ],
    )
    def test_a_limit_that_the_settings_outdo_is_a_warning(
        self, settings: Settings, options: dict[str, Any], given: dict[str, Any]
    ) -> None:
        for name, value in given.items():
            setattr(settings, name, value)
        register(**options)

        assert ids() == ["celery.W023"]

    @pytest.mark.parametrize("options", [{"soft_time_limit": 0}, {"time_limit": 0}, {"time_limit": 0.0}, {}])
    def test_no_limit_contradicts_nothing(self, settings: Settings, options: dict[str, Any]) -> None:
        settings.CELERYD_TASK_TIME_LIMIT, settings.CELERYD_TASK_SOFT_TIME_LIMIT = 60, 50
        register(**options)

        assert ids() == []

    def test_a_priority_that_rabbitmq_does_not_have_is_a_warning(self, settings: Settings) -> None:
        register(priority=5)
        assert ids() == []

        settings.CELERY_BROKER_URL = RABBIT
        assert ids() == ["celery.W022"]

        settings.CELERY_QUEUE_MAX_PRIORITY = 9
        assert ids() == []

    def test_a_serializer_that_workers_do_not_read_is_a_warning(self, settings: Settings) -> None:
        register(serializer="pickle")

        message = only("celery.W003")

        assert message.hint == "Write CELERY_ACCEPT_CONTENT = ['json', 'pickle']."

        settings.CELERY_ACCEPT_CONTENT = ["json", "application/x-python-serialize"]
        assert ids() == []

    def test_a_plain_function_has_no_options_to_be_wrong(self) -> None:
        tasks.register(register_nothing, "orders.nothing")

        assert ids() == []


def register_nothing() -> None:
    """Stand in the registry, as functions did in 0.2."""


def test_every_id_is_explained_in_the_module() -> None:
    sources = [file.read_text() for file in Path(celery.checks.__file__).parents[1].rglob("*.py")]
    used = {identity for source in sources for identity in re.findall(r'"(celery\.[EWI]\d{3})"', source)}

    assert used == {line.split()[0] for line in str(celery.checks.__doc__).splitlines() if line.startswith("celery.")}


class Unshowable:
    """Nothing can be said of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", [10**5000, -(10**5000), Unshowable(), [Unshowable()], "\ud800", "amqp://["], ids=type)
@pytest.mark.parametrize(
    "beside", [{}, {"AMQP_HOST": "rabbit"}, {"CELERY_BACKEND": "tyrant", "TT_HOST": "tt"}], ids=str
)
@pytest.mark.parametrize("name", conf.BY_NAME)
def test_no_value_of_a_setting_ends_the_checks_with_a_traceback(
    name: str, beside: dict[str, Any], value: Any, settings: Settings
) -> None:
    # given
    for other, its_value in beside.items():
        setattr(settings, other, its_value)
    setattr(settings, name, value)

    # when
    said = [message.msg for message in found(deploy=True)]

    # then
    if not isinstance(value, conf.BY_NAME[name].types):
        assert [text for text in said if text.startswith(f"{name} = ")]
