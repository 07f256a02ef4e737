"""What is sent, in which shares, and how far ahead of the worker."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction

from tests.soak import tasks

#: Of a thousand tasks so many are of each kind.
IGNORED, STORED, UNICODE, LARGE, FAILING, RETRIED, LATER = 600, 250, 50, 40, 30, 20, 10
THOUSAND = 1000

LARGE_TEXTS = tuple(secrets.token_hex(5_000) for _ in range(8))  # 10 KB that no database compresses much
UNICODE_TEXTS = ("größer", "кириллица", "日本語のテキスト", "a\N{COMBINING DIAERESIS}\U0001f409", '"quoted"\\\n\t\'')
SECONDS_AHEAD = 1.0

#: Of each thousand so many leave a row in celery_taskmeta: all but the ignored.
RESULTS = THOUSAND - IGNORED


def send(thousands: int, using: str) -> None:
    """Send so many thousand tasks, kind after kind."""
    numbers = range(thousands)
    for task, share, argument in KINDS:
        task.delay_many((argument(number),) for number in range(share * thousands))
    for number in numbers:
        with transaction.atomic(using=using):  # one commit for all that wait for their moment
            for _ in range(LATER):
                tasks.stored.apply_async((number,), countdown=SECONDS_AHEAD)


def _text(texts: Sequence[str]) -> Callable[[int], str]:
    return lambda number: texts[number % len(texts)]


KINDS: tuple[tuple[Any, int, Callable[[int], Any]], ...] = (
    (tasks.ignored, IGNORED, int),
    (tasks.stored, STORED, int),
    (tasks.unicode, UNICODE, _text(UNICODE_TEXTS)),
    (tasks.measured, LARGE, _text(LARGE_TEXTS)),
    (tasks.failing, FAILING, int),
    (tasks.retried, RETRIED, int),
)
