"""What the values of options may be: each function returns what the worker needs of one, or raises ValueError."""

import logging
import os
from typing import Any, Final

from celery import conf, platform
from celery.log import JSON
from celery.message import is_name

#: Beyond this a number of children is a slip of the hand, which one machine does not survive.
MOST_CHILDREN: Final = 1000
#: Bytes that the kernel has for the path of a unix socket, with the zero at its end.
LONGEST_SOCKET: Final = 108


def children(value: Any) -> int:
    """Return a number of child processes."""
    if not isinstance(value, int) or not 1 <= value <= MOST_CHILDREN:
        raise ValueError(f"the number of children is from 1 to {MOST_CHILDREN}, not {value}")
    return value


def queues(value: Any) -> tuple[str, ...]:
    """Return the names between the commas, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",") if name.strip()))
    if not names:
        raise ValueError("-Q names no queue")
    if odd := [name for name in names if not is_name(name)]:
        raise ValueError(
            f"-Q names a queue that cannot be: {odd[0]!r:.80}. A name has at most 255 characters and no NUL"
        )
    return names


def level(value: Any) -> str:
    """Return the name of a log level in capitals."""
    name, known = str(value).upper(), conf.BY_CONSTANT["DAEMON_LOG_LEVEL"].choices
    if name not in known:
        raise ValueError(f"{name} is no log level: choose one of {', '.join(known)}")
    return name


def log_format(value: Any) -> str:
    """Return ``json``, or a format that the logging module takes."""
    text = str(value)
    if text == JSON:
        return text
    try:
        logging.Formatter(text).format(logging.makeLogRecord({}))
    except (ValueError, TypeError, KeyError) as error:  # no field at all, half of one, one that no line has
        raise ValueError(
            f"{text!r:.80} is no format of log lines: write json, or a format of the logging module "
            "such as '%(asctime)s %(message)s'"
        ) from error
    return text


def umask(value: Any) -> int:
    """Return a umask from octal text, or from a number."""
    return platform.umask_of(value)


def socket(value: Any) -> str:
    """Return the absolute path of a unix socket: a daemon has another folder."""
    path = os.path.abspath(str(value))  # noqa: PTH100 - also of what is no path at all
    if len(os.fsencode(path)) >= LONGEST_SOCKET or "\0" in path:
        raise ValueError(f"the path of a socket has less than {LONGEST_SOCKET} bytes and no NUL, not {path!r:.160}")
    return path
