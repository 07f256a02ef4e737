"""Finds the broker of the settings by the scheme of its URL; a driver is imported at its first use."""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from celery import conf

if TYPE_CHECKING:
    from celery.broker.base import Broker

SCHEMES: Final = {
    "django": "celery.broker.database.DatabaseBroker",
    "amqp": "celery.broker.amqp.AmqpBroker",
    "amqps": "celery.broker.amqp.AmqpBroker",
    "redis": "celery.broker.redis.RedisBroker",
    "rediss": "celery.broker.redis.RedisBroker",
    "memory": "celery.broker.memory.MemoryBroker",
    "eager": "celery.worker.inline.InlineBroker",
}

#: The packages of PyPI that drivers need.
PACKAGES: Final = {"redis": "redis", "rediss": "redis"}

#: The URL that CELERY_ALWAYS_EAGER stands for.
EAGER: Final = "eager://"
EAGER_TEXT: Final = "CELERY_ALWAYS_EAGER is on, so each task runs where it is sent, and"

#: Stand between the senders and the broker, the last one first; see `celery.testing`.
interposed: Final["list[Broker]"] = []


def current() -> "Broker":
    """Return the broker that senders give their messages to. Raises ImproperlyConfigured."""
    return interposed[-1] if interposed else configured()


def configured() -> "Broker":
    """Return the broker of the settings: the one that CELERY_BROKER_URL names, or the eager one."""
    return by_url(EAGER if conf.ALWAYS_EAGER else conf.BROKER_URL)


def is_eager() -> bool:
    """Tell whether tasks run where they are sent."""
    url = conf.BROKER_URL
    return bool(conf.ALWAYS_EAGER) or (isinstance(url, str) and url.startswith(EAGER))


@lru_cache(maxsize=8)
def by_url(url: str) -> "Broker":
    """Return the broker behind `url`."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        text = f"CELERY_BROKER_URL starts with {scheme!r}; it must start with one of {known}"
        raise ImproperlyConfigured(text)
    try:
        found: Broker = import_string(SCHEMES[scheme])(url)
    except ImportError as error:
        package = PACKAGES.get(scheme, "kombu")
        text = f"{scheme}:// needs a package that cannot be imported ({error}): run `pip install {package}`"
        raise ImproperlyConfigured(text) from error
    return found
