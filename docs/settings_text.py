"""The text of the page of settings, made from `celery.conf.SETTINGS`: so it cannot say anything else than the code."""

from datetime import timedelta

from celery.conf import SETTINGS, Setting

#: Defaults that are found out when they are asked for, in words.
COMPUTED = {
    "CELERY_BROKER_URL": "``django://``, or an amqp URL if ``AMQP_HOST`` or ``AMQP_SERVER`` is set",
    "CELERY_AMQP_CONSUMER_ROUTING_KEY": "the name of the default queue",
    "CELERY_AMQP_PUBLISHER_ROUTING_KEY": "the name of the default queue",
    "SEND_CELERY_TASK_ERROR_EMAILS": "``True``, unless ``DEBUG`` is on",
    "CELERYD_CONCURRENCY": "the number of processors that celeryd may use",
}


def page() -> list[str]:
    """Return the lines that describe all settings, by name."""
    return [line for setting in sorted(SETTINGS, key=lambda one: one.name) for line in description(setting)]


def description(setting: Setting) -> list[str]:
    """Return the lines that describe one setting."""
    return [
        f".. confval:: {setting.name}",
        f"   :type: {' or '.join(f'``{kind.__name__}``' for kind in setting.types)}",
        f"   :default: {default(setting)}",
        "",
        f"   {plain(setting.sentence)} {bounds(setting)}".rstrip(),
        "",
        f"   In code: ``celery.conf.{setting.constant}``.",
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
    return f"At least {setting.minimum:g}{' second' if timedelta in setting.types else ''}."


def plain(text: str) -> str:
    """Return text that stands in the page as it stands in the code: no address of mail is found in a URL."""
    return "".join(f"\\{letter}" if letter in "\\*`|_@" else letter for letter in text)
