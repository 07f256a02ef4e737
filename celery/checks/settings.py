"""Compares every setting with the table in `celery.conf`."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from kombu.serialization import registry as serializers

from celery import conf
from celery.checks.values import has_type, shown, shown_of, sound
from celery.conf.setting import Setting

PREFIXES: Final = ("CELERY_", "CELERYD_")
#: Names and content types of serializers that run any code when they are read.
PICKLE: Final = frozenset({"pickle", "application/x-python-serialize"})


@checks.register("celery")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Compare every setting with the table in `celery.conf`."""
    return [*_unknown_settings(), *_wrong_values(), *_serializers(), *_meaningless_settings()]


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
            hint=f"Write CELERY_ACCEPT_CONTENT = {[*accepted, sent]!r}.",
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
