"""The tasks that are registered when the checks run: `autodiscover` has found them by then."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from django.core import checks
from django.core.checks import CheckMessage
from kombu.serialization import registry as serializers

from celery import conf
from celery.bin.values import never_comes
from celery.calling import HIGHEST_PRIORITY
from celery.checks.rabbitmq import queue_trouble
from celery.checks.values import has_type, is_amqp, shown, sound
from celery.conf.setting import LARGEST, NUMBER
from celery.registry import tasks

#: How the names of the tasks begin that are part of this package.
OURS: Final = "celery."


@checks.register("celery")
def check_tasks(**_: Any) -> list[CheckMessage]:
    """Check the options of each task, by name; of those that come with us it is known that they are in order."""
    theirs = [task for name, task in sorted(tasks.items()) if not name.startswith(OURS)]
    return [found for task in theirs for look in LOOKS for found in look(task)]


def _wrong_options(task: Any) -> Iterator[CheckMessage]:
    for option, (trouble_of, example) in OPTIONS.items():
        value = getattr(task, option, None)
        if value is not None and value != "" and (trouble := trouble_of(value)):  # nothing is said by "", too
            text = f"The task {shown(task.name)} has {option} = {shown(value)}, which {trouble}"
            yield checks.Error(text, hint=f"Write {option} = {example}, or leave it out.", id="celery.E021")


def _priority_trouble(value: Any) -> str | None:
    if type(value) is int and abs(value) <= HIGHEST_PRIORITY:
        return None
    return f"is not a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}."


def _limit_trouble(value: Any) -> str | None:
    if has_type(value, NUMBER) and 0 <= value <= LARGEST:
        return None
    return f"is not a number of seconds, from 0 (no limit) to {LARGEST:,}."


def _serializer_trouble(value: Any) -> str | None:
    return None if isinstance(value, str) and value in serializers.name_to_type else "is not a serializer of kombu."


#: What is wrong with the value of an option, as the end of a sentence, and a value that could stand there.
OPTIONS: Final[dict[str, tuple[Callable[[Any], str | None], str]]] = {
    "queue": (queue_trouble, "'celery'"),
    "routing_key": (queue_trouble, "'celery'"),
    "priority": (_priority_trouble, "5"),
    "serializer": (_serializer_trouble, "'json'"),
    "time_limit": (_limit_trouble, "300"),
    "soft_time_limit": (_limit_trouble, "270"),
}


def _limits(task: Any) -> Iterator[CheckMessage]:
    """Compare the two limits that hold for a task: its own, or those of the settings. 0 is no limit."""
    own_hard, own_soft = _limit(task, "time_limit"), _limit(task, "soft_time_limit")
    hard = sound("TASK_TIME_LIMIT") if own_hard is None else own_hard
    soft = sound("TASK_SOFT_TIME_LIMIT") if own_soft is None else own_soft
    if own_hard is own_soft is None or not never_comes(soft, hard):
        return
    of_soft = "CELERYD_TASK_SOFT_TIME_LIMIT" if own_soft is None else "its soft_time_limit"
    of_hard = "CELERYD_TASK_TIME_LIMIT" if own_hard is None else "its time_limit"
    text = f"The task {shown(task.name)}: {of_soft} = {soft:g} never comes, because of {of_hard} = {hard:g}."
    hint = "Write a soft_time_limit that is some seconds less than the time_limit, or soft_time_limit = 0 for none."
    is_its_own = own_hard is not None and own_soft is not None
    yield (
        checks.Error(text, hint=hint, id="celery.E018")
        if is_its_own
        else checks.Warning(text, hint=hint, id="celery.W023")
    )


def _limit(task: Any, option: str) -> float | None:
    value = getattr(task, option, None)
    return value if value is not None and _limit_trouble(value) is None else None


def _priority_on_rabbitmq(task: Any) -> Iterator[CheckMessage]:
    if getattr(task, "priority", None) and is_amqp() and not conf.QUEUE_MAX_PRIORITY:
        text = f"The task {shown(task.name)} has a priority, which means nothing: queues on RabbitMQ have none here."
        hint = "Write CELERY_QUEUE_MAX_PRIORITY = 9 before the queue is declared, or leave the priority out."
        yield checks.Warning(text, hint=hint, id="celery.W022")


def _unread_serializer(task: Any) -> Iterator[CheckMessage]:
    name, accepted = getattr(task, "serializer", None), sound("ACCEPT_CONTENT")
    if not name or accepted is None or _serializer_trouble(name):
        return
    if name not in accepted and serializers.name_to_type[name] not in accepted:
        text = f"The task {shown(task.name)} has serializer = {name!r}, which CELERY_ACCEPT_CONTENT does not have: "
        hint = f"Write CELERY_ACCEPT_CONTENT = {[*accepted, name]!r}."
        more = "a worker with these settings buries its messages."
        yield checks.Warning(f"{text}{more}", hint=hint, id="celery.W003")


LOOKS: Final = (_wrong_options, _limits, _priority_on_rabbitmq, _unread_serializer)
