"""``manage.py celery_settings``: every setting in force, where it comes from, and what is wrong with it."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.cache import caches
from django.core.checks import CheckMessage
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from celery import backends, broker, conf
from celery.bin.options import OPTIONS, Option
from celery.checks.values import HIDDEN, is_secret, shown, without_password
from celery.conf.setting import Setting
from celery.management.output import table

DEFAULT: Final = "default"
#: The source where settings have no module: settings.configure(), or override_settings in a test.
CONFIGURED: Final = "settings"
#: Names of settings in the text of a check.
NAME: Final = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
PLAIN: Final = (str, int, float, bool, type(None))
MOST_BITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A setting as it is shown: without its password. `source` says who decides; changed: it is not as by default."""

    topic: str
    name: str
    value: Any
    default: Any
    source: str
    is_changed: bool
    errors: list[str] = field(default_factory=list)


class Command(BaseCommand):
    """Shows the settings of celery that are in force. Works also where the system checks find errors."""

    help = "Shows every setting of celery, its value, where it comes from, and what the system checks say of it."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--json", action="store_true", help="as JSON")
        parser.add_argument("--changed", action="store_true", help="only what is not the default")

    def handle(self, *_: Any, **options: Any) -> None:
        """Print settings by topic, then what else follows from them."""
        found = checks.run_checks(tags=["celery"])
        rows = [row for row in _rows(found) if row.is_changed or not options["changed"]]
        left = [_text(message) for message in found if _named(message) is None]
        write = _as_json if options["json"] else _for_people
        self.stdout.write(write(rows, _places(), left))


def _rows(found: Iterable[CheckMessage]) -> list[Row]:
    """Return a row for each setting, and one for each variable of the environment that celeryd hears first."""
    messages: dict[str, list[str]] = {}
    for message in found:
        messages.setdefault(_named(message) or "", []).append(_text(message))
    rows = []
    for topic, settings in conf.TOPICS.items():
        for setting in settings:
            rows.append(_row(topic, setting, messages.get(setting.name, [])))
            rows += _environment_rows(topic, setting, os.environ)
    return rows


def _row(topic: str, setting: Setting, errors: list[str]) -> Row:
    return Row(
        topic=topic,
        name=setting.name,
        value=_shown(setting, setting.value()),
        default=_shown(setting, setting.default_value()),
        source=_source(setting),
        is_changed=bool(errors) or setting.value() != setting.default_value(),
        errors=errors,
    )


def _source(setting: Setting) -> str:
    if getattr(django_settings, setting.name, None) is not None:
        return str(django_settings.SETTINGS_MODULE or CONFIGURED)
    if setting.name == "CELERY_BROKER_URL" and (conf.AMQP_HOST or conf.AMQP_SERVER):
        return "AMQP_HOST" if conf.AMQP_HOST else "AMQP_SERVER"
    return DEFAULT


def _environment_rows(topic: str, setting: Setting, environ: Mapping[str, str]) -> list[Row]:
    """Return what celeryd takes from the environment of this process in place of the setting: it may have another."""
    found = []
    for option in OPTIONS:
        given = [name for name in option.variables if environ.get(name, "").strip()]
        if option.constant == setting.constant and given:
            value, errors = _heard(option, given[0], environ)
            found.append(
                Row(
                    topic=topic,
                    name=setting.name,
                    value=_shown(setting, value),
                    default=_shown(setting, setting.default_value()),
                    source=f"environment: {given[0]}, for celeryd",
                    is_changed=True,
                    errors=errors,
                )
            )
    return found


def _heard(option: Option, variable: str, environ: Mapping[str, str]) -> tuple[Any, list[str]]:
    try:
        return option.in_environment(environ), []
    except CommandError as error:
        return environ[variable], [str(error)]


def _shown(setting: Setting, value: Any) -> Any:
    """Return a value that JSON can hold and anybody may see."""
    if value is not None and is_secret(setting):
        return HIDDEN
    if isinstance(value, str):
        return without_password(value)
    return value if isinstance(value, PLAIN) and not _is_endless(value) else _shown_many(value)


def _is_endless(value: Any) -> bool:
    """Tell whether it is a number of more digits than Python writes."""
    return isinstance(value, int) and value.bit_length() > MOST_BITS


def _shown_many(value: Any) -> Any:
    if isinstance(value, set):
        return sorted(_described(one) for one in value)
    if isinstance(value, list | tuple):
        return [_described(one) for one in value]
    return _described(value)


def _described(value: Any) -> str:
    try:
        return without_password(str(value))
    except Exception:  # noqa: BLE001 - a setting of a wrong type, whose text may be anything
        return shown(value)


# -- what follows from them


def _places() -> dict[str, Any]:
    """Return what Django and the settings decide together; None for what cannot be had, which a check has told."""
    messages, results = _attempt(lambda: broker.current().alias), _attempt(lambda: backends.default().alias)
    return {
        "broker": _attempt(lambda: _path(broker.current())),
        "backend": _attempt(lambda: _path(backends.default())),
        "messages": _database(messages),
        "results": _database(results) or (_cache(conf.CACHE_ALIAS) if conf.BACKEND == "cache" else None),
    }


def _attempt(question: Any) -> Any:
    try:
        return question()
    except Exception:  # noqa: BLE001 - what cannot be imported or found can fail in any way
        return None


def _path(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _database(alias: str | None) -> dict[str, str] | None:
    vendor = _attempt(lambda: connections[alias].vendor) if alias else None
    return {"database": str(alias), "vendor": vendor} if vendor else None


def _cache(alias: Any) -> dict[str, Any] | None:
    return {"cache": alias, "class": caches.settings.get(alias, {}).get("BACKEND")} if isinstance(alias, str) else None


# -- what the checks say


def _named(message: CheckMessage) -> str | None:
    """Return the setting that a message is about: the first that its text names."""
    return next((name for name in NAME.findall(message.msg) if name in conf.BY_NAME), None)


def _text(message: CheckMessage) -> str:
    return f"{message.id}: {message.msg} {message.hint or ''}".rstrip()


# -- writing


def _as_json(rows: list[Row], places: dict[str, Any], left: list[str]) -> str:
    answer = {
        "settings": [
            {
                "name": row.name,
                "topic": row.topic,
                "value": row.value,
                "default": row.default,
                "source": row.source,
                "errors": row.errors,
            }
            for row in rows
        ],
        "places": places,
        "errors": left,
    }
    return json.dumps(answer, indent=2)


def _for_people(rows: list[Row], places: dict[str, Any], left: list[str]) -> str:
    parts = []
    for topic in conf.TOPICS:
        if found := [row for row in rows if row.topic == topic]:
            lines = table((topic, "value", "from"), [(row.name, _cell(row), row.source) for row in found])
            wrong = [f"! {text}" for row in found for text in row.errors]
            parts.append("\n".join([lines, *wrong]))
    parts.append(table(("In use", ""), [(what, _place(where)) for what, where in places.items()]))
    if left:
        parts.append("\n".join(f"! {text}" for text in left))
    return "\n\n".join(parts)


def _place(where: Any) -> Any:
    return ", ".join(f"{key} {value}" for key, value in where.items()) if isinstance(where, dict) else where


def _cell(row: Row) -> str:
    """Return a text without quotes, unless it is wrong: then ``'4'`` has to be told from ``4``."""
    is_plain = isinstance(row.value, str) and row.value.strip() == row.value != "" and not row.errors
    return str(row.value) if is_plain else repr(row.value)
