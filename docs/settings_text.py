"""The text of the page of settings, made from `celery.conf.TOPICS`: so it cannot say anything else than the code."""

from datetime import timedelta

from celery.bin.options import OPTIONS
from celery.conf import TOPICS, Setting
from celery.conf.setting import LARGEST

#: Defaults that are found out when they are asked for, in words.
COMPUTED = {
    "CELERY_BROKER_URL": "``django://``, or an amqp URL if ``AMQP_HOST`` or ``AMQP_SERVER`` is set",
    "CELERY_AMQP_CONSUMER_ROUTING_KEY": "the name of the default queue",
    "CELERY_AMQP_PUBLISHER_ROUTING_KEY": "the name of the default queue",
    "SEND_CELERY_TASK_ERROR_EMAILS": "``True``, unless ``DEBUG`` is on",
    "CELERYD_CONCURRENCY": "the number of processors that celeryd may use",
}


def page() -> list[str]:
    """Return the lines that describe all settings, topic by topic."""
    lines = []
    for topic, settings in TOPICS.items():
        lines += [topic, "=" * len(topic), ""]
        lines += [line for setting in settings for line in description(setting)]
    return lines


def description(setting: Setting) -> list[str]:
    """Return the lines that describe one setting."""
    return [
        f".. confval:: {setting.name}",
        f"   :type: {' or '.join(f'``{kind.__name__}``' for kind in setting.types)}",
        f"   :default: {default(setting)}",
        "",
        f"   {plain(setting.sentence)} {bounds(setting)}".rstrip(),
        "",
        f"   In code: ``celery.conf.{setting.constant}``.{of_celeryd(setting)}",
        "",
    ]


def default(setting: Setting) -> str:
    """Return the default as one writes it, or in words where it is computed."""
    if callable(setting.default):
        return COMPUTED[setting.name]
    if isinstance(setting.default, timedelta):
        return f"``{setting.default!r}``".replace("datetime.", "")
    return f"``{setting.default!r}``"


def bounds(setting: Setting) -> str:
    """Return a sentence about the values that it can have, or nothing."""
    if setting.choices:
        return f"One of {', '.join(f'``{choice!r}``' for choice in setting.choices)}."
    if setting.minimum is None:
        return ""
    most = "" if setting.maximum == LARGEST else f", at most {setting.maximum:,}"
    return f"At least {setting.minimum:,g}{' second' if timedelta in setting.types else ''}{most}."


def of_celeryd(setting: Setting) -> str:
    """Return what else says it to celeryd, and wins over it, or nothing."""
    found = [option for option in OPTIONS if option.constant == setting.constant]
    ways = [f"``{option.long_names[0]}``, ``{option.variables[0]}`` in the environment" for option in found]
    return f" For one worker: {'; '.join(ways)}." if ways else ""


def plain(text: str) -> str:
    """Return text that stands in the page as it stands in the code: no address of mail is found in a URL."""
    return "".join(f"\\{letter}" if letter in "\\*`|_@" else letter for letter in text)
