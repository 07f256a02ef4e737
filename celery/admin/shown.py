"""Rows as text for people. What they hold is untrusted: nothing of it is run, long texts are cut, Django escapes."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from django.utils.html import format_html

from celery import message as wire
from celery.admin.scales import duration, local
from celery.broker.store.statements import as_bytes
from celery.exceptions import UndecodableMessage
from celery.models import Message
from celery.moments import as_moment

#: Characters of one argument, of a whole text, and of a cell in a list.
LONGEST_VALUE: Final = 2_000
LONGEST_TEXT: Final = 20_000
LONGEST_CELL: Final = 120
#: Levels of JSON that are indented: each costs every line below it two characters.
DEEPEST: Final = 20
#: Bytes of a body that are read only to be shown.
LARGEST: Final = 1024 * 1024


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text that can be sent to a browser, its end cut if it is very long.

    >>> cut("abcdef", 3)
    'abc … (6 characters in all)'
    """
    shown = _sendable(text[:longest])
    return shown if len(text) <= longest else f"{shown} … ({len(text):,} characters in all)"


def _sendable(text: str) -> str:
    """Return text without NUL and lone surrogates, which no page can carry."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\N{SYMBOL FOR NULL}")


def cell(text: str, longest: int = LONGEST_CELL) -> str:
    """Return the beginning of a text as one line."""
    line = " ".join(_sendable(text[:longest]).split())
    return line if len(text) <= longest else f"{line}…"


def block(text: str) -> str:
    """Return a text as a block that keeps its lines; a dash for none."""
    return format_html('<pre class="celery-text">{}</pre>', cut(text)) if text else "-"


def moment(value: datetime | None) -> str:
    """Return a moment to the second, in the current time zone; a dash for none."""
    return f"{local(as_moment(value)):%Y-%m-%d %H:%M:%S}" if value else "-"


def moment_and_age(value: datetime | None) -> str:
    """Return a moment, and how far from now that is."""
    return f"{moment(value)}, {ago(value)}" if value else "-"


def ago(value: datetime) -> str:
    """Return how long ago a moment was, or in how long it will be."""
    seconds = (datetime.now(UTC) - as_moment(value)).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def pretty(text: str) -> str:
    """Return JSON text with its structure visible; any other, and what is long or deep, as it is.

    >>> print(pretty('{"b": [1], "a": null}'))
    {
      "b": [
        1
      ],
      "a": null
    }
    """
    if len(text) > LONGEST_TEXT:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if _is_deep(value) else json.dumps(value, indent=2, ensure_ascii=False)


def _is_deep(value: Any) -> bool:
    """Tell whether lists and dictionaries are in each other on more than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def arguments(message: Message) -> str:
    """Return the arguments of a message, a line each, or why they are not shown. Only JSON is read."""
    body = as_bytes(message.body)
    content_type, encoding, headers = wire.unpack_headers(message.headers)
    if content_type != wire.JSON:
        return f"written as {content_type}, which is not read here"
    if len(body) > LARGEST:
        return f"{len(body):,} bytes, which is too long to be read here"
    try:
        call = wire.decode(body, content_type=content_type, content_encoding=encoding, headers=headers)
    except UndecodableMessage as error:
        return f"cannot be decoded: {error}"
    lines = [_value(value) for value in call.args]
    lines += [f"{name} = {_value(value)}" for name, value in call.kwargs.items()]
    return "\n".join(lines) or "none"


def _value(value: Any) -> str:
    try:
        return cut(repr(value), LONGEST_VALUE)
    except Exception as error:  # noqa: BLE001 - types of the project's own may be in it
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
