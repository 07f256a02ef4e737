"""The text of the page of checks: the table in `celery.checks`, why each line is there, and what it says by example.

The examples are not written down, they are made: a check runs with the settings that its example names. Only what
takes another database than this one is written down.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from django.core import checks
from django.test import override_settings

import celery.checks
from celery.registry import tasks

LEVELS = {
    "E": ("Errors", "They keep ``migrate``, ``runserver`` and ``celeryd`` from starting."),
    "W": ("Warnings", "They are printed, and keep nothing from starting."),
    "I": ("Information", "Only ``manage.py check --deploy`` prints it."),
}
LINE = re.compile(r"^(celery\.([EWI])\d{3})  (.+)$", re.MULTILINE)
WIDTH = 100
TASK = "orders.pay"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the page says of an id. The example is made of `settings` and the options of a `task`, or is `says`."""

    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    says: str = ""


class NoMigrations:
    """A database router that lets `migrate` create nothing."""

    @staticmethod
    def allow_migrate(*_: Any, **__: Any) -> bool:
        """Forbid it."""
        return False


AMQP = {"CELERY_BROKER_URL": "amqp://shop:secret@rabbit.example.org/shop"}

ENTRIES = {
    "celery.E001": Entry(
        why="A misspelt setting would be silently without effect.", settings={"CELERY_BAKEND": "database"}
    ),
    "celery.E002": Entry(
        why="A value of another type fails later, in a worker, at night. ``None`` always means the default.",
        settings={"CELERYD_DRAIN_TIMEOUT": "60"},
    ),
    "celery.E003": Entry(
        why="The value has the right type, and is not among the choices or out of bounds.",
        settings={"CELERY_QUEUE_TYPE": "fast"},
    ),
    "celery.E004": Entry(
        why="Without a broker nothing can be sent. Passwords are never shown.",
        settings={"CELERY_BROKER_URL": "kafka://shop:secret@rabbit.example.org"},
    ),
    "celery.E005": Entry(
        why="The backend is imported and made; what fails there would fail at every result.",
        settings={"CELERY_BACKEND": "shop.results.Backend"},
    ),
    "celery.E006": Entry(
        why="Messages and results need statements that are written for each kind of database.",
        says="DATABASES['default'], where messages and results would be kept, is of the kind 'oracle', which is not "
        "supported.\nHINT: Use mysql or postgresql or sqlite; a database router or 'django://alias' names another "
        "database.",
    ),
    "celery.E007": Entry(
        why="It is the SQLite that Python was built with.",
        says="SQLite 3.34.1 is too old: 3.35 brought the statements that celery needs.\n"
        "HINT: Use a Python that is built with SQLite 3.35 or later, or PostgreSQL.",
    ),
    "celery.E008": Entry(
        why="A cache in the memory of one process shows no result to another process.",
        settings={"CELERY_BACKEND": "cache"},
    ),
    "celery.E009": Entry(
        why="Both are needed where :confval:`CELERY_BACKEND` is ``tyrant``.",
        settings={"CELERY_BACKEND": "tyrant", "TT_HOST": "tyrant.example.org", "TT_PORT": "many"},
    ),
    "celery.E010": Entry(
        why="Without the function the views cannot know who may see a result, and answer nobody.",
        settings={"CELERY_VIEWS_PERMISSION": "shop.views.may_see"},
    ),
    "celery.E011": Entry(
        why="A due moment is taken in the same transaction in which its message is inserted; only a database can.",
        settings={"CELERY_PERIODIC_STATUS_BACKEND": "cache"},
    ),
    "celery.E012": Entry(
        why="The classic settings are put together to a URL, so each of them has to be a part of one.",
        settings={"CELERY_BROKER_URL": None, "AMQP_HOST": "rabbit.example.org:5673"},
        code='AMQP_HOST = "rabbit.example.org:5673"',
    ),
    "celery.E013": Entry(
        why="What is sent to such a queue is taken by no worker.",
        settings={"CELERY_AMQP_CONSUMER_QUEUE": "celery,mail"},
    ),
    "celery.E014": Entry(
        why="RabbitMQ refuses to declare it, so nothing could be sent.", settings={"CELERY_AMQP_EXCHANGE_TYPE": "dirct"}
    ),
    "celery.E015": Entry(
        why="RabbitMQ refuses the argument ``x-max-priority`` of a quorum queue.",
        settings={**AMQP, "CELERY_QUEUE_TYPE": "quorum", "CELERY_QUEUE_MAX_PRIORITY": 9},
    ),
    "celery.E016": Entry(
        why="A daemon has no terminal: it could not tell that it has nowhere to log. Whether the folder exists is not "
        "looked at; it may be on another machine.",
        settings={"CELERYD_LOG_FILE": "/var/log/"},
    ),
    "celery.E017": Entry(
        why="A line is formatted to see whether that works. A field that only some lines have counts as wrong.",
        settings={"CELERYD_DAEMON_LOG_FORMAT": "%(asctime)s %(user)s %(message)s"},
    ),
    "celery.E018": Entry(
        why="The soft limit is there to let a task tidy up before the hard one kills its process. The same is said of "
        "a task whose own limits are so.",
        settings={"CELERYD_TASK_TIME_LIMIT": 60, "CELERYD_TASK_SOFT_TIME_LIMIT": 60},
    ),
    "celery.E019": Entry(
        why="Probably MiB were meant. Each task would pay for a new process.",
        settings={"CELERYD_MAX_MEMORY_PER_CHILD": 2048},
    ),
    "celery.E020": Entry(why="Octal digits are meant, as in the shell.", settings={"CELERYD_UMASK": "089"}),
    "celery.E021": Entry(
        why="The options are looked at before the first call, which else would be the one that fails: a queue, a "
        "priority, a serializer, a limit.",
        task={"queue": "mail, urgent"},
        code='@task(queue="mail, urgent")\ndef pay(invoice): ...',
    ),
    "celery.W001": Entry(
        why="In SQLite a transaction that begins as a reader and then writes fails at once if somebody else wrote "
        "meanwhile, whatever the timeout.",
        settings={"CELERY_SQLITE_TUNING": False},
    ),
    "celery.W002": Entry(
        why="Each process has a memory of its own.",
        says="CELERY_BROKER_URL keeps messages in DATABASES['default'], which is in memory: no worker can see it.\n"
        "HINT: Give it a file as NAME. In memory it serves tests that run no worker.",
    ),
    "celery.W003": Entry(
        why="A worker reads only the serializers of :confval:`CELERY_ACCEPT_CONTENT`. Other workers, with other "
        "settings, may read these messages: so it is no error.",
        settings={"CELERY_TASK_SERIALIZER": "pickle"},
    ),
    "celery.W004": Entry(
        why="Django's caches in files and in a table count their entries, 300 by default, and then throw some away.",
        settings={
            "CELERY_BACKEND": "cache",
            "CACHES": {
                "default": {
                    "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                    "LOCATION": "/var/cache/shop",
                }
            },
        },
        code='CELERY_BACKEND = "cache"\nCACHES = {\n    "default": {\n'
        '        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",\n'
        '        "LOCATION": "/var/cache/shop",\n    },\n}',
    ),
    "celery.W005": Entry(
        why="Django uses READ COMMITTED unless OPTIONS say otherwise.",
        says="Transactions on DATABASES['default'] are REPEATABLE READ instead of READ COMMITTED. No message is lost "
        "or worked twice by that, but locks then cover the gaps between rows: who sends waits for who takes, and more "
        "transactions end in a deadlock.\nHINT: Leave 'isolation_level' out of DATABASES['default']['OPTIONS'], or "
        "keep messages under another alias: 'django://alias'.",
    ),
    "celery.W010": Entry(
        why="It is accepted, so that settings of 0.2 need no change.", settings={"CELERYD_QUEUE_WAKEUP_AFTER": 0.5}
    ),
    "celery.W011": Entry(
        why="On a direct exchange the key of a message has to be that of the queue.",
        settings={**AMQP, "CELERY_AMQP_PUBLISHER_ROUTING_KEY": "shop"},
    ),
    "celery.W012": Entry(
        why="Ids are random, and whoever has one sees the result: as in 0.2.",
        settings={"ROOT_URLCONF": "celery.urls"},
        code='urlpatterns = [path("tasks/", include("celery.urls"))]',
    ),
    "celery.W013": Entry(why="It is meant for tests.", settings={"CELERY_ALWAYS_EAGER": True}),
    "celery.W014": Entry(
        why="One of two addresses is a left-over, and it may be the one that somebody goes on changing. The same is "
        "said of a user or a virtual host without a host, and of two hosts.",
        settings={"CELERY_BROKER_URL": "django://", "AMQP_HOST": "rabbit.example.org"},
    ),
    "celery.W015": Entry(
        why="All queues are bound to one exchange. Of these types it ignores the routing key.",
        settings={**AMQP, "CELERY_AMQP_EXCHANGE_TYPE": "fanout"},
    ),
    "celery.W016": Entry(
        why="RabbitMQ closes the channel of whoever sends more. Earlier versions took 128 MiB.",
        settings={**AMQP, "CELERY_MESSAGE_MAX_BYTES": 64 * 1024 * 1024},
    ),
    "celery.W017": Entry(
        why="Development may well use another broker than production: so it is said only of the settings of a "
        "deployment.",
        settings={"CELERY_BROKER_URL": "django://", "CELERY_QUEUE_TYPE": "quorum"},
    ),
    "celery.W018": Entry(
        why="Reading pickle runs what the sender put there.", settings={"CELERY_ACCEPT_CONTENT": ["json", "pickle"]}
    ),
    "celery.W019": Entry(
        why="By default they are on without ``DEBUG``, and nothing is said; but who writes ``True`` expects e-mails.",
        settings={"SEND_CELERY_TASK_ERROR_EMAILS": True, "ADMINS": []},
    ),
    "celery.W020": Entry(
        why="A worker proves three times in a lease that it lives. What holds up a proof for longer than the lease "
        "makes others run its tasks a second time.",
        settings={"CELERYD_LEASE": 2},
    ),
    "celery.W021": Entry(
        why="``migrate`` leaves the table out without a word, and celeryd does not start. Silence it if somebody "
        "creates tables by hand.",
        settings={"DATABASE_ROUTERS": ["checks_text.NoMigrations"]},
        code='DATABASE_ROUTERS = ["shop.routers.NoMigrations"]',
    ),
    "celery.W022": Entry(
        why="Queues on RabbitMQ have priorities only if they were declared with them.",
        settings=AMQP,
        task={"priority": 9},
        code="@task(priority=9)\ndef pay(invoice): ...",
    ),
    "celery.W023": Entry(
        why="A task that sets one of the two limits gets the other from the settings.",
        settings={"CELERYD_TASK_TIME_LIMIT": 60},
        task={"soft_time_limit": 300},
        code="CELERYD_TASK_TIME_LIMIT = 60\n\n@task(soft_time_limit=300)\ndef pay(invoice): ...",
    ),
    "celery.W024": Entry(
        why="Somebody wrote 27 for 027, and would get 033: group and others might read, and not write, what they "
        "should not see. Text is always octal.",
        settings={"CELERYD_UMASK": 27},
    ),
    "celery.I001": Entry(
        why="The settings of a connection are the project's; whoever changes them should say so.",
        says="celery tunes SQLite connections, such as those of DATABASES['default']: unless OPTIONS say otherwise, "
        "transactions begin IMMEDIATE and wait 20 seconds for a lock; celeryd switches on write-ahead logging.\n"
        "HINT: CELERY_SQLITE_TUNING = False forbids it; then write 'transaction_mode': 'IMMEDIATE' into OPTIONS.",
    ),
    "celery.I002": Entry(
        why="Where both are in one database, the result is stored and the message deleted in one commit.",
        says="Results are kept in DATABASES['default'], messages in DATABASES['queue']: a result and the end of its "
        "message are two commits, one after the other.\nHINT: Nothing is lost by it: the result is written first. Keep "
        "both in one database to have one commit.",
    ),
    "celery.I003": Entry(
        why="A message belongs to the transaction in which it is sent only if both are in one database.",
        says="Messages are kept in DATABASES['queue']: a task that is sent inside a transaction of another database is "
        "on its way at once, before that transaction is committed, and also if it is rolled back.\n"
        "HINT: Send such tasks with transaction.on_commit, or inside transaction.atomic(using='queue').",
    ),
}


def table() -> dict[str, str]:
    """Return the table of `celery.checks`: what each id says."""
    return {identity: sentence for identity, _, sentence in LINE.findall(celery.checks.__doc__ or "")}


def page() -> list[str]:
    """Return the lines that describe all ids, level by level."""
    lines: list[str] = []
    for level, (title, meaning) in LEVELS.items():
        lines += [title, "=" * len(title), "", meaning, ""]
        for identity, sentence in table().items():
            if identity.startswith(f"celery.{level}"):
                lines += description(identity, sentence)
    return lines


def description(identity: str, sentence: str) -> list[str]:
    """Return the lines that describe one id."""
    entry = ENTRIES[identity]
    first = sentence[:1].upper() + sentence[1:]
    return [
        f".. _{identity}:",
        "",
        identity,
        "-" * len(identity),
        "",
        f"{first}. {entry.why}",
        "",
        *_block("python", entry.code or _code(entry.settings)),
        *_block("text", _wrapped(entry.says or said(identity))),
    ]


def said(identity: str) -> str:
    """Run the checks with the settings of an example, and return what they say, as ``manage.py check`` prints it."""
    entry = ENTRIES[identity]
    with override_settings(**entry.settings), _task(entry.task):
        found = checks.run_checks(tags=["celery"], include_deployment_checks=True)
    message = next(message for message in found if message.id == identity)
    return f"{message.msg}\nHINT: {message.hint}"


@contextmanager
def _task(options: Mapping[str, Any]) -> Iterator[None]:
    """Have a task with these options for a moment, if there are any."""
    if options:
        tasks[TASK] = SimpleNamespace(name=TASK, type="regular", **options)
    try:
        yield
    finally:
        tasks.pop(TASK, None)


def _code(settings: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {value!r}".replace("'", '"') for name, value in settings.items())


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in text.splitlines())


def _block(language: str, text: str) -> list[str]:
    if not text:
        return []
    return [f".. code-block:: {language}", "", *(f"   {line}".rstrip() for line in text.splitlines()), ""]
