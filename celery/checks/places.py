"""Can the broker and the backends be had that the settings name? The drivers say more of their own settings."""

from typing import Any
from urllib.parse import urlsplit

from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from celery import backends, broker, conf
from celery.backends.base import BaseBackend
from celery.checks import rabbitmq
from celery.checks.values import shown


@checks.register("celery")
def check_broker(**_: Any) -> list[CheckMessage]:
    """Check that the broker's URL can be used. One that cannot be because of what it is made of is told by E012."""
    url = conf.BROKER_URL
    if rabbitmq.address_trouble():
        return []
    trouble = url_trouble(url) if isinstance(url, str) else None
    if trouble is None:
        return broker.current().check() if isinstance(url, str) else []
    known = ", ".join(f"{scheme}://" for scheme in broker.SCHEMES)
    hint = (
        "Write 'django://', 'django://alias', 'amqp://user:password@host:5672/vhost' or 'redis://host:6379/0'. "
        f"Known schemes: {known}."
    )
    return [checks.Error(f"CELERY_BROKER_URL = {shown(url)} {trouble}", hint=hint, id="celery.E004")]


def url_trouble(url: str) -> str | None:
    """Return what is wrong with the broker's URL, as the end of a sentence, or None."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may hold a piece of the password
        return "is not a URL: in a password, write @ as %40, / as %2F, : as %3A, # as %23 and ? as %3F."
    if "://" not in url or parts.scheme not in broker.SCHEMES:
        return f"has the scheme {parts.scheme!r}, which no broker has."
    try:
        _ = broker.current().alias
    except ImproperlyConfigured as error:
        return f"cannot be used: {error}."
    return None


@checks.register("celery", deploy=True)
def check_eager(**_: Any) -> list[CheckMessage]:
    """Tell that no worker gets anything."""
    if not broker.is_eager():
        return []
    text = f"{broker.EAGER_TEXT} whoever sends one waits for its end; no worker gets anything, and nothing is delayed."
    hint = "It is for tests: remove it from the settings of a deployment."
    return [checks.Warning(text, hint=hint, id="celery.W013")]


@checks.register("celery")
def check_backend(**_: Any) -> list[CheckMessage]:
    """Check that the result backend can be imported and made."""
    name = conf.BACKEND
    trouble = backend_trouble(name) if isinstance(name, str) else None
    if trouble is None:
        return backends.default().check() if isinstance(name, str) else []
    hint = f"Write one of {[*backends.NAMES]}, or the dotted path of a subclass of celery.backends.base.BaseBackend."
    return [checks.Error(f"CELERY_BACKEND = {shown(name)} {trouble}", hint=hint, id="celery.E005")]


def backend_trouble(name: str) -> str | None:
    """Return why the backend `name` cannot be had, as the end of a sentence, or None."""
    try:
        found: Any = backends.get_backend_cls(name)
        if not isinstance(found, type) or not issubclass(found, BaseBackend):
            return f"is not a result backend but {found!r:.80}."
        backends.default()
    except Exception as error:  # noqa: BLE001 - importing and making it runs any code
        return f"cannot be had: {type(error).__name__}: {error}"
    return None
