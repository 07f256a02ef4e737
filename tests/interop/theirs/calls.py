"""The calls that both sides send, and how either records one. Both import this, so it imports neither."""

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

PAUSE = 1.5  # seconds that a delayed call waits
MOMENT = datetime(2026, 11, 22, 12, 30, 15, 250_000, tzinfo=UTC)

#: Token of a call -> its positional and named arguments.
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "plain": ([1, "two", None, [3.5, True]], {}),
    "named": ([], {"text": "\u00c4\u20ac\U0001f600", "nested": {"list": [1, {"empty": {}}]}}),
    "typed": (
        [MOMENT, date(2026, 11, 22), Decimal("12.50")],
        {"key": UUID(int=7), "naive": MOMENT.replace(tzinfo=None)},
    ),
    "later": (["countdown"], {}),
    "at": (["eta"], {}),
    "fresh": (["expires"], {}),
    "stale": (["expires before it is due"], {}),
    "unimportant": (["priority"], {}),
}
LATER = ("later", "at")
NEVER = ("stale",)
RUN = tuple(token for token in CALLS if token not in NEVER)


def options_of(token: str) -> dict[str, Any]:
    """Return the options of apply_async, which are the same on both sides."""
    options: dict[str, dict[str, Any]] = {
        "later": {"countdown": PAUSE},
        "at": {"eta": datetime.now(UTC) + timedelta(seconds=PAUSE)},
        "fresh": {"expires": 60},
        "stale": {"countdown": PAUSE, "expires": PAUSE / 2},
        "unimportant": {"priority": None},
    }
    return options.get(token, {})


def produce(echo: Any, tokens: list[str]) -> None:
    """Send the calls named by `tokens`, and print what was sent when and under which id, as JSON."""
    sent = {}
    for token in tokens:
        args, kwargs = CALLS[token]
        moment = time.time()
        options = options_of(token)
        result = echo.apply_async([token, *args], kwargs, **options) if options else echo.delay(token, *args, **kwargs)
        sent[token] = (moment, str(result))
    print(json.dumps(sent))


def record(token: str, args: Any, kwargs: Any) -> None:
    """Append a line for this execution by one write, which no other process can tear."""
    line = json.dumps({"token": token, "at": time.time(), "args": described(list(args)), "kwargs": described(kwargs)})
    descriptor = os.open(os.environ["INTEROP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def described(value: Any) -> Any:
    """Return `value` with the type of every leaf, in a form that JSON can hold."""
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    return f"{type(value).__name__} {value}"
