"""Log lines as JSON: one object a line, whatever is in it. Decision 0022 says why no library does it."""

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final

#: What every record has. All else came by `extra`.
KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Values inside of values, beyond which they are written as text.
DEEPEST: Final = 4
#: Integers beyond this are read as something else by many programs.
LARGEST_INTEGER: Final = 2**53


class JSONFormatter(logging.Formatter):
    """Formats a record as an object: time, level, logger, process, pid, message, and each field of `extra`.

    A field of `extra` that is called like one of ours gets an underscore at its end.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of ASCII. Never raises."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.processName,
            "pid": record.process,
            "message": _message(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        for name, value in vars(record).items():
            if name not in KNOWN:
                fields[f"{name}_" if name in fields else name] = _short(name, value)
        return json.dumps({_text(name): _safe(value) for name, value in fields.items()}, allow_nan=False)


def _short(name: str, value: Any) -> Any:
    """Return a runtime to the microsecond: the digits after it are noise."""
    return round(value, 6) if name == "runtime" and type(value) is float else value


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit, or whose __str__ raises
        return f"{_text(record.msg)} {_text(record.args)}"


def _safe(value: Any) -> Any:
    try:
        return _plain(value)
    except Exception:  # noqa: BLE001 - a collection can be anybody's code, too
        return _text(value)


def _plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as something that JSON has."""
    if _is_json(value):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if depth < DEEPEST and isinstance(value, Mapping):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _is_json(value: Any) -> bool:
    """Tell whether JSON has this number or word; text has to be looked at."""
    if isinstance(value, int):  # True and False, too
        return -LARGEST_INTEGER <= value <= LARGEST_INTEGER
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> str:
    """Return `value` as text that can be encoded, whatever it does when it is asked for it."""
    try:
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
        return text.encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - its __str__ is anybody's code
        return f"<{type(value).__name__}>"
