"""The settings: one table. Read them at use, as ``conf.DAEMON_CONCURRENCY``.

Every name is looked up in Django's settings when it is asked for, so that ``override_settings`` works. The rows are in
`celery.conf.project` and `celery.conf.worker`. The system checks, ``manage.py celery_settings`` and the settings page
of the documentation are made from them.
"""

from typing import Any, Final

from celery.conf import project, worker
from celery.conf.setting import Setting
from celery.conf.worker import LOG_LEVELS

__all__ = ["BY_CONSTANT", "BY_NAME", "LOG_LEVELS", "MEANINGLESS", "SETTINGS", "TOPICS", "Setting"]

#: The settings by what they are about, in the order of the documentation.
TOPICS: Final[dict[str, tuple[Setting, ...]]] = {**project.TOPICS, **worker.TOPICS}
SETTINGS: Final = tuple(one for topic in TOPICS.values() for one in topic)

BY_CONSTANT: Final[dict[str, Setting]] = {one.constant: one for one in SETTINGS}
BY_NAME: Final[dict[str, Setting]] = {one.name: one for one in SETTINGS}


#: Settings of 0.2 that are accepted, and do nothing.
MEANINGLESS: Final = ("CELERYD_QUEUE_WAKEUP_AFTER", "CELERYD_EMPTY_MSG_EMIT_EVERY")


def __getattr__(constant: str) -> Any:
    """Return the value of a setting by its constant or its own name; after ``DEFAULT_``: what it is by default."""
    if found := BY_CONSTANT.get(constant) or BY_NAME.get(constant):
        return found.value()
    name = constant.removeprefix("DEFAULT_")
    if found := BY_CONSTANT.get(name) or BY_NAME.get(name):
        return found.default_value()
    message = f"celery.conf has no constant {constant!r}"
    raise AttributeError(message)
