"""The databases that hold messages and results."""

from collections.abc import Iterator
from typing import Any, Final

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, connections, router

from celery import backends, broker, conf
from celery.broker import store
from celery.checks.places import backend_trouble, url_trouble
from celery.checks.values import broker_url

OLDEST_SQLITE: Final = (3, 35)
#: The name that Django's test runner gives to its databases in memory.
OF_TEST_RUNNER: Final = "file:memorydb_"


@checks.register("celery")
def check_databases(**_: Any) -> list[CheckMessage]:
    """Check the databases that hold messages and results."""
    found: list[CheckMessage] = []
    for alias, content in used_aliases().items():
        found += _database_trouble(alias, content)
    return found + _forbidden_tables()


@checks.register("celery", deploy=True)
def check_sqlite_tuning(**_: Any) -> list[CheckMessage]:
    """Tell that SQLite connections are changed, and how to forbid it."""
    tuned = [alias for alias in used_aliases() if connections[alias].vendor == "sqlite" and conf.SQLITE_TUNING]
    return [
        checks.Info(
            f"celery tunes SQLite connections, such as those of DATABASES[{alias!r}]: unless OPTIONS say otherwise, "
            "transactions begin IMMEDIATE and wait 20 seconds for a lock; celeryd switches on write-ahead logging.",
            hint="CELERY_SQLITE_TUNING = False forbids it; then write 'transaction_mode': 'IMMEDIATE' into OPTIONS.",
            id="celery.I001",
        )
        for alias in tuned
    ]


@checks.register("celery", deploy=True)
def check_commits(**_: Any) -> list[CheckMessage]:
    """Tell what does not become true together: it is in different databases."""
    return [*_foreign_messages(), *_separate_results()]


def _foreign_messages() -> Iterator[CheckMessage]:
    alias = _alias_of_messages()
    if alias and alias != DEFAULT_DB_ALIAS:
        yield checks.Info(
            f"Messages are kept in DATABASES[{alias!r}]: a task that is sent inside a transaction of another database "
            "is on its way at once, before that transaction is committed, and also if it is rolled back.",
            hint=f"Send such tasks with transaction.on_commit, or inside transaction.atomic(using={alias!r}).",
            id="celery.I003",
        )


def _separate_results() -> Iterator[CheckMessage]:
    messages, results = _alias_of_messages(), _alias_of_results()
    is_queue = broker_url().startswith("django://")
    if is_queue and messages and results and messages != results:
        yield checks.Info(
            f"Results are kept in DATABASES[{results!r}], messages in DATABASES[{messages!r}]: a result and the end of "
            "its message are two commits, one after the other.",
            hint="Nothing is lost by it: the result is written first. Keep both in one database to have one commit.",
            id="celery.I002",
        )


def _forbidden_tables() -> list[CheckMessage]:
    """Tell of tables that no `migrate` creates, because a router says so."""
    messages, results = _alias_of_messages(), _alias_of_results()
    models = [model for model in apps.get_app_config("celery").get_models() if not model._meta.proxy]  # noqa: SLF001
    places = {model: results if model.__name__ == "TaskMeta" else messages for model in models}
    return [
        checks.Warning(
            f"DATABASE_ROUTERS forbid `migrate` to create the table of celery.{model.__name__} in "
            f"DATABASES[{alias!r}], where it is looked for.",
            hint=f"Let allow_migrate({alias!r}, 'celery') of the routers return True, then run "
            f"`manage.py migrate celery --database={alias}`.",
            id="celery.W021",
        )
        for model, alias in places.items()
        if alias and not router.allow_migrate_model(alias, model)
    ]


def _alias_of_messages() -> str | None:
    """Return the database of messages; None where E004 has told why there is none."""
    is_sound = isinstance(conf.BROKER_URL, str) and not url_trouble(conf.BROKER_URL)
    return broker.current().alias if is_sound else None


def _alias_of_results() -> str | None:
    """Return the database of results; None where they are elsewhere, or E005 has told why there is none."""
    is_sound = isinstance(conf.BACKEND, str) and not backend_trouble(conf.BACKEND)
    return backends.default().alias if is_sound else None


def used_aliases() -> dict[str, str]:
    """Return the databases in use, and what each of them keeps. What is misconfigured was told by E004 and E005."""
    used: dict[str, str] = {}
    if messages := _alias_of_messages():
        used[messages] = "messages"
    if results := _alias_of_results():
        used[results] = "messages and results" if results in used else "results"
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
    return is_in_memory and broker_url().startswith("django://") and broker.current().alias == alias
