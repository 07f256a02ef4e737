"""Compares every setting with the table in `celery.conf`."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from kombu.serialization import registry as serializers

from celery import conf
from celery.setting import Setting

PREFIXES: Final = ("CELERY_", "CELERYD_")
PASSWORD: Final = re.compile(r"://\S*@")


@checks.register("celery")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Compare every setting with the table in `celery.conf`."""
    return [*_unknown_settings(), *_wrong_values(), *_serializers(), *_meaningless_settings(), *_routing_keys()]


def _unknown_settings() -> Iterator[CheckMessage]:
    for name in sorted(set(dir(django_settings)) - set(conf.BY_NAME)):
        if name.startswith(PREFIXES):
            yield checks.Error(f"{name} is not a setting of celery.", hint=_nearest(name), id="celery.E001")


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
        if not _has_type(value, setting.types):
            yield _wrong_type(setting, value)
        elif not setting.allows(value):
            yield _wrong_value(setting, value)


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    """Tell whether `value` is of one of `types`; a bool is not a number here."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _wrong_type(setting: Setting, value: Any) -> CheckMessage:
    wanted = " or ".join(kind.__name__ for kind in setting.types)
    return checks.Error(
        f"{setting.name} = {_shown_of(setting, value)} is of type {type(value).__name__}; it must be of type {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E002",
    )


def _wrong_value(setting: Setting, value: Any) -> CheckMessage:
    wanted = f"one of {', '.join(map(repr, setting.choices))}" if setting.choices else setting.bound(value)
    return checks.Error(
        f"{setting.name} = {shown(value)} is not allowed; it must be {wanted}.",
        hint=f"{setting.sentence} {_example(setting)}",
        id="celery.E003",
    )


def _example(setting: Setting) -> str:
    default = setting.default_value()
    return "Or leave it out." if default is None else f"Without it: {setting.name} = {shown(default)}."


def shown(value: Any) -> str:
    """Return the value as it may be shown to anybody: short, and without the password of a URL."""
    return PASSWORD.sub("://***@", repr(value))[:80]


def _shown_of(setting: Setting, value: Any) -> str:
    return "(hidden)" if setting.name.endswith("PASSWORD") else shown(value)


def _meaningless_settings() -> Iterator[CheckMessage]:
    for name in conf.MEANINGLESS:
        if getattr(django_settings, name, None) is not None:
            text = f"{name} means nothing any more: no worker looks for messages at a fixed interval."
            yield checks.Warning(text, hint="Remove it.", id="celery.W010")


def _routing_keys() -> Iterator[CheckMessage]:
    published, bound = conf.AMQP_PUBLISHER_ROUTING_KEY, conf.AMQP_CONSUMER_ROUTING_KEY
    if conf.AMQP_EXCHANGE_TYPE == "direct" and published != bound and str(conf.BROKER_URL).startswith("amqp"):
        yield checks.Warning(
            f"Messages for the default queue are published with the key {shown(published)}, but the queue is bound by "
            f"{shown(bound)}: on an exchange of type direct they are returned, and sending raises UnroutableMessage.",
            hint="Set CELERY_AMQP_PUBLISHER_ROUTING_KEY and CELERY_AMQP_CONSUMER_ROUTING_KEY to the same, or neither.",
            id="celery.W011",
        )


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
            hint=f"Write CELERY_ACCEPT_CONTENT = {[*accepted, sent]!r}.",
            id="celery.W003",
        )
