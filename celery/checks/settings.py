"""Compares every setting with the table in `celery.conf`."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from kombu.serialization import registry as serializers

from celery import conf
from celery.bin.options import VARIABLES, Option
from celery.checks.values import has_type, shown, shown_of, sound
from celery.conf.setting import Setting

PREFIXES: Final = ("CELERY_", "CELERYD_")
#: Names and content types of serializers that run any code when they are read.
PICKLE: Final = frozenset({"pickle", "application/x-python-serialize"})

QUEUE_OF_TASK: Final = "there is none: say queue= at the task"
ADAPTS: Final = "there is none: it adapts"
ALWAYS: Final = "there is none: it is always so"
TIME_ZONE: Final = "there is none: Django's TIME_ZONE counts, or timezone= of a crontab"
#: Settings of Celery 5 that have another name here, or none: the end of a sentence that begins with "here". Some are
#: of Celery 3, whose names many projects still write.
OF_CELERY: Final = {
    "CELERY_ACKS_LATE": ALWAYS,
    "CELERY_BEAT_SCHEDULE": "there is none: write @periodic_task(run_every=...) at the task",
    "CELERY_BEAT_SCHEDULER": "there is none: every worker looks at the clock",
    "CELERY_BROKER_CONNECTION_RETRY": ALWAYS,
    "CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP": ALWAYS,
    "CELERY_BROKER_TRANSPORT_OPTIONS": "there is none: options of redis:// are in its URL; confirms are always on",
    "CELERY_CACHE_BACKEND": "write CELERY_CACHE_ALIAS, with the name of an entry of CACHES",
    "CELERY_CREATE_MISSING_QUEUES": ALWAYS,
    "CELERY_DEFAULT_QUEUE": "write CELERY_AMQP_CONSUMER_QUEUE",
    "CELERY_ENABLE_UTC": TIME_ZONE,
    "CELERY_IGNORE_RESULT": "there is none: say ignore_result= at the task",
    "CELERY_IMPORTS": "there is none: the tasks.py of every app is imported",
    "CELERY_INCLUDE": "there is none: the tasks.py of every app is imported",
    "CELERY_RESULT_BACKEND": "write CELERY_BACKEND, which is 'database', 'cache' or 'tyrant'",
    "CELERY_RESULT_EXPIRES": "write CELERY_TASK_RESULT_EXPIRES",
    "CELERY_RESULT_SERIALIZER": "there is none: results are JSON",
    "CELERY_ROUTES": QUEUE_OF_TASK,
    "CELERY_TASK_ACKS_LATE": ALWAYS,
    "CELERY_TASK_ALWAYS_EAGER": "write CELERY_ALWAYS_EAGER",
    "CELERY_TASK_CREATE_MISSING_QUEUES": ALWAYS,
    "CELERY_TASK_DEFAULT_EXCHANGE": "write CELERY_AMQP_EXCHANGE",
    "CELERY_TASK_DEFAULT_EXCHANGE_TYPE": "write CELERY_AMQP_EXCHANGE_TYPE",
    "CELERY_TASK_DEFAULT_PRIORITY": "there is none: say priority= at the task",
    "CELERY_TASK_DEFAULT_QUEUE": "write CELERY_AMQP_CONSUMER_QUEUE",
    "CELERY_TASK_DEFAULT_QUEUE_TYPE": "write CELERY_QUEUE_TYPE",
    "CELERY_TASK_DEFAULT_ROUTING_KEY": "write CELERY_AMQP_PUBLISHER_ROUTING_KEY",
    "CELERY_TASK_IGNORE_RESULT": "there is none: say ignore_result= at the task",
    "CELERY_TASK_QUEUES": "there is none: a queue is made when it is first named; a worker takes from those of -Q",
    "CELERY_TASK_QUEUE_MAX_PRIORITY": "write CELERY_QUEUE_MAX_PRIORITY",
    "CELERY_TASK_REJECT_ON_WORKER_LOST": ALWAYS,
    "CELERY_TASK_ROUTES": QUEUE_OF_TASK,
    "CELERY_TASK_SOFT_TIME_LIMIT": "write CELERYD_TASK_SOFT_TIME_LIMIT",
    "CELERY_TASK_TIME_LIMIT": "write CELERYD_TASK_TIME_LIMIT",
    "CELERY_TASK_TRACK_STARTED": "there is none: running tasks are in no table",
    "CELERY_TIMEZONE": TIME_ZONE,
    "CELERY_WORKER_CONCURRENCY": "write CELERYD_CONCURRENCY",
    "CELERY_WORKER_HIJACK_ROOT_LOGGER": "there is none: the root logger is left alone",
    "CELERY_WORKER_LOG_FORMAT": "write CELERYD_DAEMON_LOG_FORMAT",
    "CELERY_WORKER_MAX_MEMORY_PER_CHILD": "write CELERYD_MAX_MEMORY_PER_CHILD, in KiB too",
    "CELERY_WORKER_MAX_TASKS_PER_CHILD": "write CELERYD_MAX_TASKS_PER_CHILD",
    "CELERY_WORKER_PREFETCH_MULTIPLIER": ADAPTS,
    "CELERY_WORKER_SEND_TASK_EVENTS": "there is none: there are no events",
    "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": "write CELERYD_DRAIN_TIMEOUT",
    "CELERYD_HIJACK_ROOT_LOGGER": "there is none: the root logger is left alone",
    "CELERYD_PREFETCH_MULTIPLIER": ADAPTS,
}


@checks.register("celery")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Compare every setting with the table in `celery.conf`."""
    return [*_unknown_settings(), *_wrong_values(), *_serializers(), *_meaningless_settings()]


def _unknown_settings() -> Iterator[CheckMessage]:
    for name in sorted(set(dir(django_settings)) - set(conf.BY_NAME)):
        if name.startswith(PREFIXES):
            yield checks.Error(f"{name} is not a setting of celery.", hint=_instead(name), id="celery.E001")


def _instead(name: str) -> str:
    """Return what to write in place of a setting that there is not."""
    if name in VARIABLES:
        return _of_option(VARIABLES[name], name)
    if name in OF_CELERY:
        return f"It is a setting of Celery 5 or earlier; here {OF_CELERY[name]}."
    return _nearest(name)


def _of_option(option: Option, variable: str) -> str:
    (name,) = (name for name, its in zip(option.long_names, option.variables, strict=True) if its == variable)
    setting = f" The setting is {option.setting.name}." if option.setting else ""
    return f"It is an option of celeryd, {name}, and a variable of its environment; no setting.{setting}"


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
        if not has_type(value, setting.types):
            yield _wrong_type(setting, value)
        elif not setting.allows(value):
            yield _wrong_value(setting, value)


def _wrong_type(setting: Setting, value: Any) -> CheckMessage:
    wanted = " or ".join(kind.__name__ for kind in setting.types)
    return checks.Error(
        f"{setting.name} = {shown_of(setting, value)} is of type {type(value).__name__}; it must be of type {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E002",
    )


def _wrong_value(setting: Setting, value: Any) -> CheckMessage:
    wanted = f"one of {', '.join(map(repr, setting.choices))}" if setting.choices else setting.bound(value)
    return checks.Error(
        f"{setting.name} = {shown_of(setting, value)} is not allowed; it must be {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E003",
    )


def _example(setting: Setting) -> str:
    default = setting.default_value()
    return "Or leave it out." if default is None else f"Without it: {setting.name} = {shown(default)}."


def _meaningless_settings() -> Iterator[CheckMessage]:
    for name in conf.MEANINGLESS:
        if getattr(django_settings, name, None) is not None:
            text = f"{name} means nothing any more: no worker looks for messages at a fixed interval."
            yield checks.Warning(text, hint="Remove it.", id="celery.W010")


def _serializers() -> Iterator[CheckMessage]:
    sent, accepted = conf.TASK_SERIALIZER, conf.ACCEPT_CONTENT
    if not isinstance(sent, str) or not isinstance(accepted, list | tuple | set):
        return  # E002
    known: dict[str, str] = serializers.name_to_type
    for name, used in (("CELERY_TASK_SERIALIZER", [sent]), ("CELERY_ACCEPT_CONTENT", accepted)):
        for unknown in (value for value in used if value not in [*known, *known.values()]):
            text = f"{name} names the serializer {shown(unknown)}, which kombu does not have."
            yield checks.Error(text, hint=f"It has: {', '.join(map(repr, sorted(known)))}.", id="celery.E003")
    if sent in known and sent not in accepted and known[sent] not in accepted:
        yield checks.Warning(
            f"CELERY_TASK_SERIALIZER = {sent!r} is not among CELERY_ACCEPT_CONTENT = {shown(accepted)}, "
            "so a worker with these settings buries every message that they send.",
            hint=f"Write CELERY_ACCEPT_CONTENT = {shown([*accepted, sent])}.",
            id="celery.W003",
        )


@checks.register("celery", deploy=True)
def check_trust(**_: Any) -> list[CheckMessage]:
    """Tell that workers read pickle."""
    accepted = sound("ACCEPT_CONTENT") or ()
    if not [name for name in accepted if isinstance(name, str) and name in PICKLE]:
        return []
    text = "CELERY_ACCEPT_CONTENT has pickle: whoever can put a message into a queue runs any code in the workers."
    hint = "Write CELERY_TASK_SERIALIZER = 'json' and CELERY_ACCEPT_CONTENT = ['json'], or silence this check."
    return [checks.Warning(text, hint=hint, id="celery.W018")]
