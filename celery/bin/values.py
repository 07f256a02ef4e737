"""What the values of options may be: each function returns what the worker needs of one, or raises ValueError."""

import os
from typing import Any, Final

from celery import conf, platform
from celery.conf.setting import LARGEST
from celery.log import JSON
from celery.log.text import refuse_format
from celery.message import is_name
from celery.worker.health.listener import LONGEST_PATH

#: Beyond this a number of children is a slip of the hand, which one machine does not survive.
MOST_CHILDREN: Final = 1000
#: KiB that a child has before its first task: Python, Django and a small project take more.
LEAST_MEMORY: Final = 20 * 1024


def children(value: Any) -> int:
    """Return a number of child processes."""
    if not isinstance(value, int) or not 1 <= value <= MOST_CHILDREN:
        raise ValueError(f"the number of children is from 1 to {MOST_CHILDREN}, not {value}")
    return value


def memory(value: Any) -> int:
    """Return KiB of resident memory, enough for a child."""
    if not LEAST_MEMORY <= value <= LARGEST:
        meant = f". For {value} MiB write {value * 1024}" if LEAST_MEMORY <= value * 1024 <= LARGEST else ""
        raise ValueError(f"the memory of a child is from {LEAST_MEMORY} to {LARGEST} KiB, not {value}{meant}")
    return int(value)


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
        refuse_format(text)
    except ValueError as error:
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
    if len(os.fsencode(path)) > LONGEST_PATH or "\0" in path:
        raise ValueError(f"the path of a socket has at most {LONGEST_PATH} bytes and no NUL, not {path!r:.160}")
    return path


def never_comes(soft: float | None, hard: float | None) -> bool:
    """Tell whether the hard time limit would always come before the soft one. None or 0 is no limit."""
    return bool(soft and hard and soft >= hard)
