"""The settings of celeryd; see `celery.conf`."""

import logging
import os
from typing import Final

from django.conf import settings as django_settings

from celery.conf.setting import NUMBER, setting


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_no_debugging() -> bool:
    return not django_settings.DEBUG


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

WORKER: Final = (
    setting(
        "DAEMON_CONCURRENCY",
        "CELERYD_CONCURRENCY",
        _cpu_count,
        int,
        "Number of child processes of celeryd.",
        minimum=1,
        maximum=1000,
    ),
    setting(
        "DAEMON_BEAT",
        "CELERYD_BEAT",
        True,  # noqa: FBT003 - a default
        bool,
        "Whether celeryd sends periodic tasks when they are due; --no-beat overrides it.",
    ),
    setting(
        "DRAIN_TIMEOUT",
        "CELERYD_DRAIN_TIMEOUT",
        25.0,
        NUMBER,
        "Seconds that running tasks get to finish after TERM; what is left goes back to its queue.",
        minimum=0,
    ),
    setting(
        "LEASE",
        "CELERYD_LEASE",
        30.0,
        NUMBER,
        "Seconds without proof of life after which other workers take over what this one holds.",
        minimum=1,
    ),
)

LIMITS: Final = (
    setting(
        "TASK_TIME_LIMIT",
        "CELERYD_TASK_TIME_LIMIT",
        None,
        NUMBER,
        "Seconds after which the process of a running task is killed, and the task has failed; None or 0: no limit. "
        "time_limit of a task overrides it.",
        minimum=0,
    ),
    setting(
        "TASK_SOFT_TIME_LIMIT",
        "CELERYD_TASK_SOFT_TIME_LIMIT",
        None,
        NUMBER,
        "Seconds after which SoftTimeLimitExceeded is raised in a running task; None or 0: no limit. "
        "soft_time_limit of a task overrides it.",
        minimum=0,
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
        "CRASH_LIMIT",
        "CELERY_CRASH_LIMIT",
        3,
        int,
        "A task that killed this many processes is dead: kept, and not tried again.",
        minimum=1,
        maximum=32_767,
    ),
    setting(
        "UNKNOWN_TASK_PATIENCE",
        "CELERY_UNKNOWN_TASK_PATIENCE",
        3600.0,
        NUMBER,
        "Seconds for which a message whose task is unknown here is tried again (deployments) before it is dead.",
        minimum=0,
    ),
)

LOG: Final = (
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
        "DAEMON_UMASK",
        "CELERYD_UMASK",
        None,
        (int, str),
        "The umask of celeryd, as octal text such as '027' or a number; None: 022 with --daemon, else as it is.",
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
)

MAIL: Final = (
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
)

NOTHING: Final = (
    setting(
        "QUEUE_WAKEUP_AFTER",
        "CELERYD_QUEUE_WAKEUP_AFTER",
        0.3,
        NUMBER,
        "Means nothing any more: a worker is told of messages, or decides itself when to look.",
        minimum=0,
    ),
    setting(
        "EMPTY_MSG_EMIT_EVERY",
        "CELERYD_EMPTY_MSG_EMIT_EVERY",
        5,
        NUMBER,
        "Means nothing any more: an idle worker writes no lines.",
        minimum=0,
    ),
)

TOPICS: Final = {
    "The worker": WORKER,
    "Limits and retries": LIMITS,
    "Log and files": LOG,
    "Error e-mails": MAIL,
    "Without meaning": NOTHING,
}
