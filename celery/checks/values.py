"""Values of settings: whether they are sound, and as they may be shown to anybody."""

import re
from typing import Any, Final

from celery import conf
from celery.conf.setting import Setting

LONGEST: Final = 80
HIDDEN: Final = "(hidden)"
PASSWORD: Final = re.compile(r"://\S*@")
#: The password of a URL that shows the rest, and one among its options.
ITS_PASSWORD: Final = re.compile(r"(://[^:/?#\s'\"]*):\S*@")
IN_QUERY: Final = re.compile(r"([?&][^=&\s]*(?:password|passwd|secret|token)[^=&\s]*=)[^&\s'\"]*", re.IGNORECASE)


def sound(constant: str) -> Any:
    """Return the value of a setting, or None if the table does not allow it, which `check_settings` tells."""
    setting = conf.BY_CONSTANT[constant]
    value = setting.value()
    return value if value is not None and has_type(value, setting.types) and setting.allows(value) else None


def has_type(value: Any, types: tuple[type, ...]) -> bool:
    """Tell whether `value` is of one of `types`; a bool is not a number here."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def shown(value: Any) -> str:
    """Return the value as it may be shown to anybody: short, and without the password of a URL."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a number of very many digits has none, and a __repr__ may do anything
        text = f"<a {type(value).__name__} that cannot be shown>"
    return IN_QUERY.sub(r"\1***", PASSWORD.sub("://***@", text))[:LONGEST]


def shown_of(setting: Setting, value: Any) -> str:
    """Return the value of this very setting likewise."""
    return HIDDEN if is_secret(setting) else shown(value)


def is_secret(setting: Setting) -> bool:
    """Tell whether the whole value is a password."""
    return setting.name.endswith("PASSWORD")


def without_password(text: str) -> str:
    """Return text with URLs in it that show the user, but no password.

    >>> without_password("amqp://shop:s3cret@rabbit/shop")
    'amqp://shop:***@rabbit/shop'
    """
    return IN_QUERY.sub(r"\1***", ITS_PASSWORD.sub(r"\1:***@", text))


def broker_url() -> str:
    """Return where messages wait; nothing where that is no text, which E002 tells."""
    found = conf.BROKER_URL
    return found if isinstance(found, str) else ""


def is_amqp() -> bool:
    """Tell whether messages wait on RabbitMQ."""
    return broker_url().startswith(("amqp://", "amqps://"))
