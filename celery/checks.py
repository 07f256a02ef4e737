"""The system checks: they read settings, import what these name, and never open a connection.

===========  ============================================================================================
id           what it says
===========  ============================================================================================
celery.E001  a setting that starts with ``CELERY_`` or ``CELERYD_`` is unknown
celery.E002  a setting has a value of the wrong type
celery.E003  a setting has a value that it cannot have
celery.E004  ``CELERY_BROKER_URL`` has an unknown scheme, cannot be read, or names no database of ours
celery.E005  the backend of ``CELERY_BACKEND`` cannot be had
celery.E006  messages or results would be kept in a kind of database that is not supported
celery.E007  SQLite is too old
celery.E008  the entry of CACHES that ``CELERY_CACHE_ALIAS`` names cannot hold results
celery.E009  ``TT_HOST`` or ``TT_PORT`` cannot be the address of a Tokyo Tyrant server
celery.E010  what ``CELERY_VIEWS_PERMISSION`` names cannot be had
celery.E011  the backend of ``CELERY_PERIODIC_STATUS_BACKEND`` cannot be had, or keeps no periodic tasks
celery.W001  transactions on SQLite do not begin IMMEDIATE
celery.W002  the queue is a database in memory, which no worker can see
celery.W003  the messages that this project sends are not accepted by its own workers
celery.W004  the cache that holds results drops some of them whenever it has few entries
celery.W005  transactions on MariaDB or MySQL are not READ COMMITTED
celery.W010  a setting of 0.2 has no meaning any more
celery.W011  what is published for the default queue never reaches it: the two routing keys differ
celery.W012  anybody may see results: ``celery.urls`` without ``CELERY_VIEWS_PERMISSION`` (only with ``--deploy``)
celery.W013  tasks run where they are sent: ``CELERY_ALWAYS_EAGER`` is on (only with ``--deploy``)
celery.I001  SQLite connections are tuned (only with ``manage.py check --deploy``)
===========  ============================================================================================

An id never changes its meaning. I001 waits for ``--deploy`` because Django shows messages of every level, INFO too,
before each ``migrate`` and ``runserver``: a project that is in order should be told so in silence.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.urls import get_resolver
from kombu.serialization import registry as serializers

from celery import backends, broker, conf, views
from celery.backends.base import BaseBackend
from celery.broker import store
from celery.conf import Setting

PREFIXES: Final = ("CELERY_", "CELERYD_")
OLDEST_SQLITE: Final = (3, 35)
PASSWORD: Final = re.compile(r"://\S*@")
#: The name that Django's test runner gives to its databases in memory.
OF_TEST_RUNNER: Final = "file:memorydb_"


# -- the table of settings


@checks.register("celery")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Compare every setting with the table in `celery.conf`."""
    return [*_unknown_settings(), *_wrong_values(), *_serializers(), *_meaningless_settings(), *_routing_keys()]


def _unknown_settings() -> Iterator[CheckMessage]:
    for name in sorted(set(dir(django_settings)) - set(conf.BY_NAME)):
        if name.startswith(PREFIXES):
            yield checks.Error(f"{name} is not a setting of celery.", hint=_nearest(name), id="celery.E001")


def _nearest(name: str) -> str:
    found = get_close_matches(name, conf.BY_NAME, n=1)
    if found:
        return f"Did you mean {found[0]}?"
    return f"Remove it. The settings are: {', '.join(sorted(conf.BY_NAME))}."


def _wrong_values() -> Iterator[CheckMessage]:
    for setting in conf.SETTINGS:
        value = getattr(django_settings, setting.name, None)
        if value is None:
            continue
        if not _has_type(value, setting.types):
            yield _wrong_type(setting, value)
        elif not setting.allows(value):
            yield _wrong_value(setting, value)


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    """Tell whether `value` is of one of `types`; a bool is not a number here."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _wrong_type(setting: Setting, value: Any) -> CheckMessage:
    wanted = " or ".join(kind.__name__ for kind in setting.types)
    return checks.Error(
        f"{setting.name} = {_shown_of(setting, value)} is of type {type(value).__name__}; it must be of type {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E002",
    )


def _wrong_value(setting: Setting, value: Any) -> CheckMessage:
    wanted = f"one of {', '.join(map(repr, setting.choices))}" if setting.choices else f"at least {setting.minimum:g}"
    return checks.Error(
        f"{setting.name} = {_shown(value)} is not allowed; it must be {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E003",
    )


def _example(setting: Setting) -> str:
    default = setting.default_value()
    return "Or leave it out." if default is None else f"Without it: {setting.name} = {_shown(default)}."


def _shown(value: Any) -> str:
    """Return the value as it may be shown to anybody: short, and without the password of a URL."""
    return PASSWORD.sub("://***@", repr(value))[:80]


def _shown_of(setting: Setting, value: Any) -> str:
    return "(hidden)" if setting.name.endswith("PASSWORD") else _shown(value)


def _meaningless_settings() -> Iterator[CheckMessage]:
    for name in conf.MEANINGLESS:
        if getattr(django_settings, name, None) is not None:
            text = f"{name} means nothing any more: no worker looks for messages at a fixed interval."
            yield checks.Warning(text, hint="Remove it.", id="celery.W010")


def _routing_keys() -> Iterator[CheckMessage]:
    published, bound = conf.AMQP_PUBLISHER_ROUTING_KEY, conf.AMQP_CONSUMER_ROUTING_KEY
    if conf.AMQP_EXCHANGE_TYPE == "direct" and published != bound and str(conf.BROKER_URL).startswith("amqp"):
        yield checks.Warning(
            f"Messages for the default queue are published with the key {_shown(published)}, but the queue is bound by "
            f"{_shown(bound)}: on an exchange of type direct they are returned, and sending raises UnroutableMessage.",
            hint="Set CELERY_AMQP_PUBLISHER_ROUTING_KEY and CELERY_AMQP_CONSUMER_ROUTING_KEY to the same, or neither.",
            id="celery.W011",
        )


def _serializers() -> Iterator[CheckMessage]:
    sent, accepted = conf.TASK_SERIALIZER, conf.ACCEPT_CONTENT
    if not isinstance(sent, str) or not isinstance(accepted, list | tuple | set):
        return  # E002
    known: dict[str, str] = serializers.name_to_type
    for name, used in (("CELERY_TASK_SERIALIZER", [sent]), ("CELERY_ACCEPT_CONTENT", accepted)):
        for unknown in (value for value in used if value not in [*known, *known.values()]):
            text = f"{name} names the serializer {_shown(unknown)}, which kombu does not have."
            yield checks.Error(text, hint=f"It has: {', '.join(map(repr, sorted(known)))}.", id="celery.E003")
    if sent in known and sent not in accepted and known[sent] not in accepted:
        yield checks.Warning(
            f"CELERY_TASK_SERIALIZER = {sent!r} is not among CELERY_ACCEPT_CONTENT = {_shown(accepted)}, "
            "so a worker with these settings buries every message that they send.",
            hint=f"Write CELERY_ACCEPT_CONTENT = {[*accepted, sent]!r}.",
            id="celery.W003",
        )


# -- broker and backend


@checks.register("celery")
def check_broker(**_: Any) -> list[CheckMessage]:
    """Check that the broker's URL can be used."""
    url = conf.BROKER_URL
    trouble = _url_trouble(url) if isinstance(url, str) else None
    if trouble is None:
        return broker.current().check() if isinstance(url, str) else []
    known = ", ".join(f"{scheme}://" for scheme in broker.SCHEMES)
    hint = f"Write 'django://', 'django://alias' or 'amqp://user:password@host:5672/vhost'. Known schemes: {known}."
    return [checks.Error(f"CELERY_BROKER_URL = {_shown(url)} {trouble}", hint=hint, id="celery.E004")]


def _url_trouble(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may hold a piece of the password
        return "is not a URL: in a password, write @ as %40, / as %2F and : as %3A."
    if "://" not in url or parts.scheme not in broker.SCHEMES:
        return f"has the scheme {parts.scheme!r}, which no broker has."
    try:
        _ = broker.current().alias
    except ImproperlyConfigured as error:
        return f"cannot be used: {error}."
    except ImportError as error:
        return f"needs a package that cannot be imported: {error}."
    return None


@checks.register("celery", deploy=True)
def check_eager(**_: Any) -> list[CheckMessage]:
    """Tell that no worker gets anything."""
    if not broker.is_eager():
        return []
    text = f"{broker.EAGER_TEXT} whoever sends one waits for its end; no worker gets anything, and nothing is delayed."
    hint = "It is for tests: remove it from the settings of a deployment."
    return [checks.Warning(text, hint=hint, id="celery.W013")]


@checks.register("celery")
def check_backend(**_: Any) -> list[CheckMessage]:
    """Check that the result backend can be imported and made."""
    name = conf.BACKEND
    trouble = _backend_trouble(name) if isinstance(name, str) else None
    if trouble is None:
        return backends.default().check() if isinstance(name, str) else []
    hint = f"Write one of {[*backends.NAMES]}, or the dotted path of a subclass of celery.backends.base.BaseBackend."
    return [checks.Error(f"CELERY_BACKEND = {_shown(name)} {trouble}", hint=hint, id="celery.E005")]


def _backend_trouble(name: str) -> str | None:
    try:
        found: Any = backends.get_backend_cls(name)
        if not isinstance(found, type) or not issubclass(found, BaseBackend):
            return f"is not a result backend but {found!r:.80}."
        backends.default()
    except Exception as error:  # noqa: BLE001 - importing and making it runs any code
        return f"cannot be had: {type(error).__name__}: {error}"
    return None


# -- the views


@checks.register("celery")
def check_permission(**_: Any) -> list[CheckMessage]:
    """Check that the function which guards the views can be had: without it they answer nobody."""
    try:
        if isinstance(conf.VIEWS_PERMISSION, str | None):
            views.permission()
    except Exception as error:  # noqa: BLE001 - importing it runs any code
        hint = "Write the dotted path of a function (request, task_id) -> bool."
        return [checks.Error(f"{error}.", hint=hint, id="celery.E010")]
    return []


@checks.register("celery", deploy=True)
def check_open_views(**_: Any) -> list[CheckMessage]:
    """Tell that results are shown to anybody who knows an id."""
    if conf.VIEWS_PERMISSION or not any(callback in _OUR_VIEWS for callback in _callbacks(get_resolver())):
        return []
    text = "celery.urls is included, and anybody who knows or guesses the id of a task sees its state and result."
    hint = "Name a function (request, task_id) -> bool in CELERY_VIEWS_PERMISSION, or silence this check."
    return [checks.Warning(text, hint=hint, id="celery.W012")]


_OUR_VIEWS: Final = (views.is_task_done, views.task_status)


def _callbacks(resolver: Any) -> Iterator[Any]:
    """Return all views behind a resolver; none where the URLconf cannot be imported, which is told by Django."""
    try:
        patterns = list(resolver.url_patterns)
    except Exception:  # noqa: BLE001 - it is the project's code
        return
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _callbacks(pattern)
        else:
            yield pattern.callback


# -- the databases


@checks.register("celery")
def check_databases(**_: Any) -> list[CheckMessage]:
    """Check the databases that hold messages and results."""
    found: list[CheckMessage] = []
    for alias, content in _used_aliases().items():
        found += _database_trouble(alias, content)
    return found


@checks.register("celery", deploy=True)
def check_sqlite_tuning(**_: Any) -> list[CheckMessage]:
    """Tell that SQLite connections are changed, and how to forbid it."""
    tuned = [alias for alias in _used_aliases() if connections[alias].vendor == "sqlite" and conf.SQLITE_TUNING]
    return [
        checks.Info(
            f"celery tunes SQLite connections, such as those of DATABASES[{alias!r}]: unless OPTIONS say otherwise, "
            "transactions begin IMMEDIATE and wait 20 seconds for a lock; celeryd switches on write-ahead logging.",
            hint="CELERY_SQLITE_TUNING = False forbids it; then write 'transaction_mode': 'IMMEDIATE' into OPTIONS.",
            id="celery.I001",
        )
        for alias in tuned
    ]


def _used_aliases() -> dict[str, str]:
    """Return the databases in use, and what each of them keeps. What is misconfigured was told by E004 and E005."""
    used: dict[str, str] = {}
    if isinstance(conf.BROKER_URL, str) and not _url_trouble(conf.BROKER_URL):
        used[broker.current().alias] = "messages"
    if isinstance(conf.BACKEND, str) and not _backend_trouble(conf.BACKEND) and (alias := backends.default().alias):
        used[alias] = "messages and results" if alias in used else "results"
    return used


def _database_trouble(alias: str, content: str) -> Iterator[CheckMessage]:
    vendor = connections[alias].vendor
    if vendor not in store.DIALECTS:
        yield checks.Error(
            f"DATABASES[{alias!r}], where {content} would be kept, is of the kind {vendor!r}, which is not supported.",
            hint=f"Use {' or '.join(store.DIALECTS)}; a database router or 'django://alias' names another database.",
            id="celery.E006",
        )
        return
    yield from store.of(alias).check()
    if vendor == "sqlite":
        yield from _sqlite_trouble(alias)


def _sqlite_trouble(alias: str) -> Iterator[CheckMessage]:
    connection: Any = connections[alias]
    if connection.Database.sqlite_version_info < OLDEST_SQLITE:
        yield checks.Error(
            f"SQLite {connection.Database.sqlite_version} is too old: 3.35 brought the statements that celery needs.",
            hint="Use a Python that is built with SQLite 3.35 or later, or PostgreSQL.",
            id="celery.E007",
        )
    options = connection.settings_dict.get("OPTIONS", {})
    mode = options.get("transaction_mode", "IMMEDIATE" if conf.SQLITE_TUNING else None)
    if str(mode).upper() != "IMMEDIATE":
        yield checks.Warning(
            f"Transactions on DATABASES[{alias!r}] begin {mode or 'DEFERRED'} instead of IMMEDIATE. Beside a busy "
            "worker, a DEFERRED one that reads, then sends a task fails with 'database is locked'; EXCLUSIVE keeps "
            "readers out.",
            hint=f"Write DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE'}}.",
            id="celery.W001",
        )
    if _is_queue_in_memory(alias):
        yield checks.Warning(
            f"CELERY_BROKER_URL keeps messages in DATABASES[{alias!r}], which is in memory: no worker can see it.",
            hint="Give it a file as NAME. In memory it serves tests that run no worker.",
            id="celery.W002",
        )


def _is_queue_in_memory(alias: str) -> bool:
    name = connections[alias].settings_dict["NAME"]
    is_in_memory = name == ":memory:" or ("mode=memory" in str(name) and not str(name).startswith(OF_TEST_RUNNER))
    return is_in_memory and urlsplit(conf.BROKER_URL).scheme == "django" and broker.current().alias == alias
