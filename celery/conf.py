"""The settings: one table. Read them at use, as ``conf.DAEMON_CONCURRENCY``.

Every name is looked up in Django's settings when it is asked for, so that ``override_settings`` works.
The system checks and the settings page of the documentation are made from `SETTINGS`.
"""

import logging
import os
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings as django_settings

from celery.setting import Setting, setting


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _classic_broker_url() -> str:
    """Build an amqp URL from the AMQP_* settings of 0.2, or answer ``"django://"`` without them."""
    host = _value("AMQP_HOST") or _value("AMQP_SERVER")
    if not host:
        return "django://"
    user, password, vhost = (quote(_text(name), safe="") for name in ("AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST"))
    return f"amqp://{user}:{password}@{host}:{_text('AMQP_PORT')}/{vhost}"


def _value(constant: str) -> Any:
    return BY_CONSTANT[constant].value()


def _text(constant: str) -> str:
    """Return a value as text; an empty one counts as not set."""
    return str(_value(constant) or BY_CONSTANT[constant].default)


def _default_queue() -> Any:
    return _value("AMQP_CONSUMER_QUEUE")


def _is_no_debugging() -> bool:
    return not django_settings.DEBUG


_NUMBER = (int, float)

#: The names of log levels, and their numbers.
LOG_LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}

SETTINGS: Final = (
    setting(
        "BROKER_URL",
        "CELERY_BROKER_URL",
        _classic_broker_url,
        str,
        "Where messages wait: django:// (the database, or django://alias), amqp://user:password@host/vhost, "
        "redis://host/0 or, for tests, memory://.",
    ),
    setting(
        "BACKEND",
        "CELERY_BACKEND",
        "database",
        str,
        "Where results live: database, cache, tyrant, or the dotted path of a backend.",
    ),
    setting(
        "PERIODIC_STATUS_BACKEND",
        "CELERY_PERIODIC_STATUS_BACKEND",
        "database",
        str,
        "Where the state of periodic tasks lives: database, or the dotted path of a backend that can keep it.",
    ),
    setting(
        "TASK_RESULT_EXPIRES",
        "CELERY_TASK_RESULT_EXPIRES",
        timedelta(days=5),
        (int, float, timedelta),
        "Seconds, or a timedelta, after which a result may be deleted.",
        minimum=1,
    ),
    setting(
        "CACHE_ALIAS", "CELERY_CACHE_ALIAS", "default", str, "The entry of CACHES that holds the results of cache."
    ),
    setting("TT_HOST", "TT_HOST", None, str, "The host of the Tokyo Tyrant server that holds the results of tyrant."),
    setting("TT_PORT", "TT_PORT", None, (int, str), "Its port."),
    setting(
        "TT_TIMEOUT",
        "CELERY_TT_TIMEOUT",
        5.0,
        _NUMBER,
        "Seconds without an answer of the Tokyo Tyrant server after which its connection is given up.",
        minimum=0.1,
    ),
    setting(
        "ALWAYS_EAGER",
        "CELERY_ALWAYS_EAGER",
        False,  # noqa: FBT003 - a default
        bool,
        "Runs each task at once where it is sent, encoded and stored as a worker would do it. For tests.",
    ),
    setting("AMQP_HOST", "AMQP_HOST", None, str, "The host of RabbitMQ, where CELERY_BROKER_URL is not set."),
    setting("AMQP_SERVER", "AMQP_SERVER", None, str, "Another name of AMQP_HOST."),
    setting("AMQP_PORT", "AMQP_PORT", 5672, (int, str), "The port of RabbitMQ at AMQP_HOST."),
    setting("AMQP_USER", "AMQP_USER", "guest", str, "The user of RabbitMQ at AMQP_HOST."),
    setting("AMQP_PASSWORD", "AMQP_PASSWORD", "guest", str, "The password of AMQP_USER."),
    setting("AMQP_VHOST", "AMQP_VHOST", "/", str, "The virtual host of RabbitMQ at AMQP_HOST."),
    setting("AMQP_CONSUMER_QUEUE", "CELERY_AMQP_CONSUMER_QUEUE", "celery", str, "The default queue."),
    setting(
        "AMQP_CONSUMER_ROUTING_KEY",
        "CELERY_AMQP_CONSUMER_ROUTING_KEY",
        _default_queue,
        str,
        "The key by which the default queue is bound to its exchange; of a topic exchange also a pattern.",
    ),
    setting(
        "AMQP_PUBLISHER_ROUTING_KEY",
        "CELERY_AMQP_PUBLISHER_ROUTING_KEY",
        _default_queue,
        str,
        "The key with which messages for the default queue are published; the key of the queue must match it.",
    ),
    setting("AMQP_EXCHANGE", "CELERY_AMQP_EXCHANGE", "celery", str, "The exchange of the default queue."),
    setting("AMQP_EXCHANGE_TYPE", "CELERY_AMQP_EXCHANGE_TYPE", "direct", str, "The type of that exchange."),
    setting(
        "QUEUE_TYPE",
        "CELERY_QUEUE_TYPE",
        "classic",
        str,
        "The type of queues on RabbitMQ. A queue keeps the type that it was declared with.",
        choices=("classic", "quorum"),
    ),
    setting(
        "QUEUE_MAX_PRIORITY",
        "CELERY_QUEUE_MAX_PRIORITY",
        None,
        int,
        "Declares queues on RabbitMQ with this many priorities (x-max-priority); None: no priorities there.",
        minimum=1,
    ),
    setting(
        "PUBLISH_TIMEOUT",
        "CELERY_PUBLISH_TIMEOUT",
        2.0,
        _NUMBER,
        "Seconds without an answer of the broker after which delay() raises BrokerUnreachable.",
        minimum=0.1,
    ),
    setting(
        "MESSAGE_MAX_BYTES",
        "CELERY_MESSAGE_MAX_BYTES",
        16 * 1024 * 1024,
        int,
        "The largest message that delay() sends, in bytes. RabbitMQ 4 refuses more than 16 MiB by default.",
        minimum=1024,
    ),
    setting(
        "TASK_SERIALIZER", "CELERY_TASK_SERIALIZER", "json", str, "How arguments are written: a serializer of kombu."
    ),
    setting(
        "ACCEPT_CONTENT",
        "CELERY_ACCEPT_CONTENT",
        ("json",),
        (list, tuple, set),
        "The serializers that a worker reads. Who can send pickle to a worker that accepts it runs any code there.",
    ),
    setting(
        "CRASH_LIMIT",
        "CELERY_CRASH_LIMIT",
        3,
        int,
        "A task that killed this many processes is dead: kept, and not tried again.",
        minimum=1,
    ),
    setting(
        "UNKNOWN_TASK_PATIENCE",
        "CELERY_UNKNOWN_TASK_PATIENCE",
        3600.0,
        _NUMBER,
        "Seconds for which a message whose task is unknown here is tried again (deployments) before it is dead.",
        minimum=0,
    ),
    setting(
        "SQLITE_TUNING",
        "CELERY_SQLITE_TUNING",
        True,  # noqa: FBT003 - a default
        bool,
        "Sets transaction_mode IMMEDIATE and a timeout of 20 s on SQLite connections, and WAL in celeryd.",
    ),
    setting(
        "DAEMON_CONCURRENCY", "CELERYD_CONCURRENCY", _cpu_count, int, "Number of child processes of celeryd.", minimum=1
    ),
    setting(
        "DAEMON_BEAT",
        "CELERYD_BEAT",
        True,  # noqa: FBT003 - a default
        bool,
        "Whether celeryd sends periodic tasks when they are due; --no-beat overrides it.",
    ),
    setting(
        "DAEMON_LOG_FILE",
        "CELERYD_LOG_FILE",
        "celeryd.log",
        str,
        "The log file of --daemon where -f names none. In the foreground the log goes to standard error.",
    ),
    setting(
        "DAEMON_PID_FILE",
        "CELERYD_PID_FILE",
        "celeryd.pid",
        str,
        "The pid file of --daemon where -p names none.",
    ),
    setting(
        "DAEMON_LOG_LEVEL", "CELERYD_DAEMON_LOG_LEVEL", "INFO", str, "How much celeryd logs.", choices=(*LOG_LEVELS,)
    ),
    setting(
        "LOG_FORMAT",
        "CELERYD_DAEMON_LOG_FORMAT",
        "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
        str,
        "The format of log lines, as in the logging module; json: one JSON object a line.",
    ),
    setting(
        "DAEMON_UMASK",
        "CELERYD_UMASK",
        None,
        (int, str),
        "The umask of celeryd, as octal text such as '027' or a number; None: 022 with --daemon, else as it is.",
    ),
    setting(
        "SEND_CELERY_TASK_ERROR_EMAILS",
        "SEND_CELERY_TASK_ERROR_EMAILS",
        _is_no_debugging,
        bool,
        "Whether a worker sends an e-mail to ADMINS when a task fails; disable_error_emails of a task forbids it.",
    ),
    setting(
        "TASK_ERROR_EMAILS_PER_HOUR",
        "CELERY_TASK_ERROR_EMAILS_PER_HOUR",
        20,
        int,
        "E-mails about one task that one worker sends within an hour; the next one tells how many there were besides.",
        minimum=0,
    ),
    setting(
        "VIEWS_PERMISSION",
        "CELERY_VIEWS_PERMISSION",
        None,
        str,
        "The dotted path of a function (request, task_id) -> bool that decides who may see a result in celery.views; "
        "without it anybody may.",
    ),
    setting(
        "QUEUE_WAKEUP_AFTER",
        "CELERYD_QUEUE_WAKEUP_AFTER",
        0.3,
        _NUMBER,
        "Means nothing any more: a worker is told of messages, or decides itself when to look.",
        minimum=0,
    ),
    setting(
        "EMPTY_MSG_EMIT_EVERY",
        "CELERYD_EMPTY_MSG_EMIT_EVERY",
        5,
        _NUMBER,
        "Means nothing any more: an idle worker writes no lines.",
        minimum=0,
    ),
    setting(
        "TASK_TIME_LIMIT",
        "CELERYD_TASK_TIME_LIMIT",
        None,
        _NUMBER,
        "Seconds after which the process of a running task is killed, and the task has failed; None: no limit. "
        "time_limit of a task overrides it.",
        minimum=0.1,
    ),
    setting(
        "TASK_SOFT_TIME_LIMIT",
        "CELERYD_TASK_SOFT_TIME_LIMIT",
        None,
        _NUMBER,
        "Seconds after which SoftTimeLimitExceeded is raised in a running task; None: no limit. "
        "soft_time_limit of a task overrides it.",
        minimum=0.1,
    ),
    setting(
        "MAX_TASKS_PER_CHILD",
        "CELERYD_MAX_TASKS_PER_CHILD",
        None,
        int,
        "Tasks after which a child process is replaced by a fresh one; None: never.",
        minimum=1,
    ),
    setting(
        "MAX_MEMORY_PER_CHILD",
        "CELERYD_MAX_MEMORY_PER_CHILD",
        None,
        int,
        "KiB of resident memory above which a child process is replaced after its task; None: never.",
        minimum=1024,
    ),
    setting(
        "DRAIN_TIMEOUT",
        "CELERYD_DRAIN_TIMEOUT",
        25.0,
        _NUMBER,
        "Seconds that running tasks get to finish after TERM; what is left goes back to its queue.",
        minimum=0,
    ),
    setting(
        "LEASE",
        "CELERYD_LEASE",
        30.0,
        _NUMBER,
        "Seconds without proof of life after which other workers take over what this one holds.",
        minimum=1,
    ),
)

BY_CONSTANT: Final[dict[str, Setting]] = {one.constant: one for one in SETTINGS}
BY_NAME: Final[dict[str, Setting]] = {one.name: one for one in SETTINGS}


#: Settings of 0.2 that are accepted, and do nothing.
MEANINGLESS: Final = ("CELERYD_QUEUE_WAKEUP_AFTER", "CELERYD_EMPTY_MSG_EMIT_EVERY")


def __getattr__(constant: str) -> Any:
    """Return the value of a setting by its constant or its own name; after ``DEFAULT_``: what it is by default."""
    name = constant.removeprefix("DEFAULT_")
    found = BY_CONSTANT.get(name) or BY_NAME.get(name)
    if found is None:
        message = f"celery.conf has no constant {constant!r}"
        raise AttributeError(message)
    return found.value() if name == constant else found.default_value()
