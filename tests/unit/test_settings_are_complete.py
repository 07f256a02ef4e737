"""Every setting has a check that refuses a wrong value, a line on its page, an effect on `conf`, and a user."""

import ast
import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from django.core import checks
from pytest_django import Settings

from celery import backends, conf
from celery.bin.values import MOST_CHILDREN
from celery.conf.setting import LARGEST, Setting
from celery.message import LARGEST_COUNT

ROOT: Final = Path(__file__).resolve().parents[2]
TYPE, VALUE = "celery.E002", "celery.E003"
FILES = [(7, TYPE), ("", "celery.E016"), (" ", "celery.E016"), ("/tmp", "celery.E016"), ("a\0b", "celery.E016")]  # noqa: S108
NAMES = [(7, TYPE), (b"celery", TYPE)]
SECONDS = [("2", TYPE), (True, TYPE), (-1, VALUE), (float("inf"), VALUE), (float("nan"), VALUE)]
COUNT = [("2", TYPE), (2.5, TYPE), (True, TYPE), (-1, VALUE), (10**12, VALUE)]
SWITCH = [("yes", TYPE), (1, TYPE)]

#: Values that cannot be, and the check that says so. What else has to be set for it to matter is in BESIDE.
WRONG: Final[dict[str, list[tuple[Any, str]]]] = {
    "CELERY_BROKER_URL": [(7, TYPE), ("", "celery.E004"), ("rabbit", "celery.E004"), ("django://x", "celery.E004")],
    "CELERY_PUBLISH_TIMEOUT": [*SECONDS, (0, VALUE)],
    "CELERY_MESSAGE_MAX_BYTES": [*COUNT, (0, VALUE)],
    "CELERY_TASK_SERIALIZER": [(7, TYPE), ("", VALUE), ("jsn", VALUE)],
    "CELERY_ACCEPT_CONTENT": [("json", TYPE), (["jsn"], VALUE), ([None], VALUE)],
    "CELERY_ALWAYS_EAGER": SWITCH,
    "CELERY_SQLITE_TUNING": SWITCH,
    "CELERY_AMQP_CONSUMER_QUEUE": [
        *NAMES,
        *((name, "celery.E013") for name in ("", "a,b", " a", "a ", "a\0", "x" * 256, "\udc80", "amq.x", "ü" * 200)),
    ],
    "CELERY_AMQP_CONSUMER_ROUTING_KEY": [*NAMES, ("x" * 256, "celery.E014")],
    "CELERY_AMQP_PUBLISHER_ROUTING_KEY": [*NAMES, ("x" * 256, "celery.E014")],
    "CELERY_AMQP_EXCHANGE": [*NAMES, *((name, "celery.E014") for name in ("", "amq.shop", "x" * 256))],
    "CELERY_AMQP_EXCHANGE_TYPE": [*NAMES, ("", "celery.E014"), ("Direct", "celery.E014")],
    "CELERY_QUEUE_TYPE": [(7, TYPE), ("", VALUE), ("stream", VALUE)],
    "CELERY_QUEUE_MAX_PRIORITY": [*COUNT, (0, VALUE), (256, VALUE)],
    "AMQP_HOST": [(7, TYPE), *((host, "celery.E012") for host in ("rabbit:5672", "amqp://rabbit", "a b", "::1"))],
    "AMQP_SERVER": [(7, TYPE), ("rabbit:5672", "celery.E012")],
    "AMQP_PORT": [(2.5, TYPE), *((port, "celery.E012") for port in ("many", -1, 65536, "1" * 5000, "\u0665"))],
    "AMQP_USER": NAMES,
    "AMQP_PASSWORD": NAMES,
    "AMQP_VHOST": NAMES,
    "CELERY_BACKEND": [(7, TYPE), ("", "celery.E005"), ("databse", "celery.E005")],
    "CELERY_TASK_RESULT_EXPIRES": [("5", TYPE), (0, VALUE), (-1, VALUE), (timedelta(0), VALUE), (timedelta.max, VALUE)],
    "CELERY_CACHE_ALIAS": [(7, TYPE), ("nowhere", "celery.E008")],
    "CELERY_PERIODIC_STATUS_BACKEND": [(7, TYPE), ("cache", "celery.E011"), ("nowhere", "celery.E011")],
    "CELERY_VIEWS_PERMISSION": [(7, TYPE), ("nowhere.nobody", "celery.E010"), ("", "celery.E010")],
    "TT_HOST": [(7, TYPE), ("", "celery.E005"), (" ", "celery.E009")],
    "TT_PORT": [(2.5, TYPE), ("many", "celery.E009"), (0, "celery.E005"), (65536, "celery.E009")],
    "CELERY_TT_TIMEOUT": [*SECONDS, (0, VALUE)],
    "CELERYD_CONCURRENCY": [*COUNT, (0, VALUE), (1001, VALUE)],
    "CELERYD_BEAT": SWITCH,
    "CELERYD_DRAIN_TIMEOUT": SECONDS,
    "CELERYD_LEASE": [*SECONDS, (0.5, VALUE)],
    "CELERYD_TASK_TIME_LIMIT": [*SECONDS, (-1, VALUE)],
    "CELERYD_TASK_SOFT_TIME_LIMIT": [*SECONDS, (-1, VALUE)],
    "CELERYD_MAX_TASKS_PER_CHILD": [*COUNT, (0, VALUE)],
    "CELERYD_MAX_MEMORY_PER_CHILD": [*COUNT, (200, VALUE), (2048, "celery.E019")],
    "CELERY_CRASH_LIMIT": [*COUNT, (0, VALUE), (32768, VALUE)],
    "CELERY_UNKNOWN_TASK_PATIENCE": SECONDS,
    "CELERYD_LOG_FILE": FILES,
    "CELERYD_PID_FILE": FILES,
    "CELERYD_UMASK": [(2.5, TYPE), *((mask, "celery.E020") for mask in ("", "089", "rwx", "1000", 0o1000, -1))],
    "CELERYD_DAEMON_LOG_LEVEL": [(10, TYPE), ("LOUD", VALUE), ("", VALUE)],
    "CELERYD_DAEMON_LOG_FORMAT": [
        (7, TYPE),
        *((form, "celery.E017") for form in ("plain", "JSON", "%(message)d", "%(user)s", "%(asctime)s %")),
    ],
    "SEND_CELERY_TASK_ERROR_EMAILS": SWITCH,
    "CELERY_TASK_ERROR_EMAILS_PER_HOUR": COUNT,
    "CELERYD_QUEUE_WAKEUP_AFTER": [*SECONDS, (0.3, "celery.W010")],
    "CELERYD_EMPTY_MSG_EMIT_EVERY": [*SECONDS, (5, "celery.W010")],
}

RABBIT: Final = {"CELERY_BROKER_URL": "amqp://rabbit.example.org"}
CLASSIC: Final = {"CELERY_BROKER_URL": None, "AMQP_HOST": "rabbit.example.org"}
TYRANT: Final = {"CELERY_BACKEND": "tyrant", "TT_HOST": "tyrant.example.org", "TT_PORT": 1978}

BESIDE: Final[dict[str, dict[str, Any]]] = {
    "CELERY_AMQP_CONSUMER_QUEUE": RABBIT,
    "CELERY_AMQP_CONSUMER_ROUTING_KEY": RABBIT,
    "CELERY_AMQP_PUBLISHER_ROUTING_KEY": RABBIT,
    "CELERY_AMQP_EXCHANGE": RABBIT,
    "AMQP_HOST": {"CELERY_BROKER_URL": None},
    "AMQP_SERVER": {"CELERY_BROKER_URL": None},
    "AMQP_PORT": CLASSIC,
    "CELERY_CACHE_ALIAS": {"CELERY_BACKEND": "cache"},
    "TT_HOST": TYRANT,
    "TT_PORT": TYRANT,
}

#: Values in order, other than the defaults.
RIGHT: Final[dict[str, Any]] = {
    "CELERY_BROKER_URL": "django://default",
    "CELERY_TASK_SERIALIZER": "yaml",
    "CELERY_ACCEPT_CONTENT": ["json", "yaml"],
    "CELERY_QUEUE_TYPE": "quorum",
    "CELERY_AMQP_EXCHANGE_TYPE": "topic",
    "CELERY_BACKEND": "celery.backends.database",
    "CELERY_PERIODIC_STATUS_BACKEND": "celery.backends.database.Backend",
    "CELERY_VIEWS_PERMISSION": "builtins.bool",
    "CELERYD_CONCURRENCY": 77,
    "CELERYD_UMASK": "027",
    "CELERYD_DAEMON_LOG_LEVEL": "debug",
    "CELERYD_DAEMON_LOG_FORMAT": "json",
    "CELERYD_MAX_MEMORY_PER_CHILD": 200 * 1024,
    "CELERY_CACHE_ALIAS": "results",
}

ALL = pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)
EACH_WRONG = [(name, value, identity) for name, cases in WRONG.items() for value, identity in cases]


@pytest.fixture(autouse=True)
def _backends_anew() -> None:
    """Some backends say what they lack only when they are made."""
    backends._instance.cache_clear()


def ids() -> set[str]:
    return {str(message.id) for message in checks.run_checks(tags=["celery"])}


def right(setting: Setting) -> Any:
    """Return a value that is allowed and not the default."""
    if setting.name in RIGHT:
        return RIGHT[setting.name]
    default = setting.default_value()
    if isinstance(default, bool):
        return not default
    if int in setting.types:
        return 7 if default is None else int(getattr(default, "days", default)) + 7
    return "other"


@ALL
def test_a_setting_has_a_value_of_the_wrong_type_that_is_refused_and_one_that_is_wrong_in_itself(
    setting: Setting,
) -> None:
    refused_by = {identity for _, identity in WRONG[setting.name]}

    assert TYPE in refused_by
    assert refused_by - {TYPE} or setting.types in {(bool,), (str,)}


@pytest.mark.parametrize(
    ("name", "value", "identity"), EACH_WRONG, ids=[f"{name}={value!r:.20}" for name, value, _ in EACH_WRONG]
)
def test_a_wrong_value_is_refused_with_a_hint_and_breaks_no_other_check(
    name: str, value: Any, identity: str, settings: Settings
) -> None:
    for other, beside in BESIDE.get(name, {}).items():
        setattr(settings, other, beside)
    setattr(settings, name, value)

    found = checks.run_checks(tags=["celery"], include_deployment_checks=True)

    about_it = [message for message in found if message.id == identity and name in message.msg]
    assert about_it
    assert all(message.hint for message in found)


def test_no_wrong_value_is_left_of_a_setting_that_is_gone() -> None:
    assert set(WRONG) == set(conf.BY_NAME)
    assert set(BESIDE) | set(RIGHT) <= set(conf.BY_NAME)


@ALL
def test_a_setting_that_is_set_is_in_force(setting: Setting, settings: Settings) -> None:
    value = right(setting)
    assert value != setting.default_value()

    setattr(settings, setting.name, value)

    assert getattr(conf, setting.constant) == getattr(conf, setting.name) == value


@ALL
def test_a_value_in_order_is_no_error(setting: Setting, settings: Settings) -> None:
    before = {identity for identity in ids() if ".E" in identity}

    setattr(settings, setting.name, right(setting))

    assert {identity for identity in ids() if ".E" in identity} == before


@ALL
def test_a_setting_is_described_on_its_page(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    text = importlib.import_module("settings_text")

    assert f".. confval:: {setting.name}" in text.page()


def test_a_setting_is_under_one_topic() -> None:
    names = [setting.name for topic in conf.TOPICS.values() for setting in topic]

    assert sorted(names) == sorted(conf.BY_NAME)
    assert list(conf.SETTINGS) == [setting for topic in conf.TOPICS.values() for setting in topic]


def used_constants() -> set[str]:
    """Return the constants that the package reads, but for its checks: as ``conf.X``, or by name in a table."""
    found: set[str] = set()
    for file in (ROOT / "celery").rglob("*.py"):
        if file.name.startswith("conf") or "checks" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "conf":
                found.add(node.attr)
            if isinstance(node, ast.keyword) and node.arg == "constant" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found


def test_each_setting_is_used_but_for_those_without_meaning() -> None:
    of_the_url = {"AMQP_HOST", "AMQP_SERVER", "AMQP_PORT", "AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST"}
    unused = set(conf.BY_CONSTANT) - used_constants() - of_the_url

    assert {conf.BY_CONSTANT[constant].name for constant in unused} == set(conf.MEANINGLESS)


def test_the_bounds_in_the_table_are_those_of_the_code() -> None:
    assert conf.BY_NAME["CELERYD_CONCURRENCY"].maximum == MOST_CHILDREN
    assert conf.BY_NAME["CELERY_CRASH_LIMIT"].maximum == LARGEST_COUNT
    assert all(setting.maximum <= LARGEST for setting in conf.SETTINGS)
