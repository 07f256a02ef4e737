"""Targets: pid files, and settings."""

import atexit
import io
import json
import math
import shutil
import tempfile
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from django.core import checks
from django.core.checks import CheckMessage
from django.test import override_settings
from django.utils.functional import lazystr

from celery import backends, broker, conf
from celery.conf.setting import Setting
from celery.exceptions import CeleryError, ImproperlyConfigured
from celery.management.commands import celery_settings
from celery.message import Call, encode
from celery.platform import LONGEST_PID, PIDFile, umask_of
from tests.fuzz.mutator import Fields, field
from tests.fuzz.target import ACCEPTED, Target, reason_of

# -- pid files

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a file a case is written
FOLDER = Path(tempfile.mkdtemp(prefix="celery-fuzz-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
LARGEST_PID = 2**31 - 1


def _valid_pid_file(chance: Random) -> Fields:
    return [chance.choice((b"%d\n", b"%d", b" %d \n")) % chance.randrange(1, 2**22)]


def _check_pid_file(fields: Fields) -> str:
    """What is no pid file stays as it is, and no pid is read that no process can have."""
    content = field(fields, 0)
    path = FOLDER / "celeryd.pid"
    path.write_bytes(content)
    held = PIDFile(path)
    pid = held.get_pid()
    assert pid is None or 0 < pid <= LARGEST_PID
    is_one = len(content) <= LONGEST_PID and (content.strip() == b"" or content.strip().isdigit())
    try:
        held.acquire()
    except SystemExit as error:
        assert path.read_bytes() == content, "it was changed"
        assert not is_one
        return reason_of(error)
    assert is_one, "something else was written over"
    held.release()
    assert not path.exists()
    return ACCEPTED


# -- settings


class _Mute:
    """A value that says nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**63, 10**5000, -(10**5000), 0.5, -0.0, math.nan, math.inf, -math.inf, 1e308),
    *("", " ", "x", "\0", "\ud800", "é", "٣", "x" * 300, "%", "%(", "{", "a..b", ".a", "a.b.c", "os.system", "json"),
    *("pickle", "INFO", "022", "0o27", "/", "/var", "/var/", "relative/x", "database", "cache", "tyrant", "memory://"),
    *("django://", "django://nowhere", "amqp://", "amqp://[", "amqp://h:x/", "amqp://h:99999/", "redis://h/x", "://"),
    *("amqp://u:p@ss@h//", "redis://\0", "amqp://\ud800/", "django://\ud800", "nothing://x", "http://[::1", "a://b@"),
    *("celery.backends.database", "celery.backends.database.Backend", "tests.memory_backend.MemoryBackend", "quorum"),
    *(b"", b"django://", b"\xff", bytearray(b"x"), (), [], ["json"], ("json", "pickle"), {"json"}, [None], [[]], [{}]),
    *({}, {"a": 1}, {"json": 1}, frozenset({"json"}), timedelta(0), timedelta(days=-1), timedelta.max, timedelta.min),
    *(object(), object, len, print, lambda: 1, 1j, range(3), lazystr("django://"), _Mute(), [_Mute()], Ellipsis),
    *(ValueError("x"), Path("/var"), type("Sub", (str,), {})("x"), type("Int", (int,), {})(5)),
)
NAMES = sorted(conf.BY_NAME)
#: One in so many cases is also shown by ``manage.py celery_settings``, which takes ten times as long as the checks.
SHOWN = 8
#: What a project may write beside: one setting alone is not the whole story.
COMPANIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"CELERY_BROKER_URL": "amqp://guest:guest@localhost:5672//"},
    {"CELERY_BROKER_URL": None, "AMQP_HOST": "localhost"},
    {"CELERY_BACKEND": "tyrant", "TT_HOST": "localhost", "TT_PORT": 1978},
    {"CELERY_BACKEND": "cache"},
)


def _valid_setting(chance: Random) -> Fields:
    name = chance.choice(NAMES)
    default = conf.BY_NAME[name].default_value()
    text = json.dumps(default if isinstance(default, str | int | float | bool | None) else None)
    odd = b"" if chance.random() < 0.3 else str(chance.randrange(len(ODD))).encode()
    return [name.encode(), text.encode(), odd, bytes([chance.randrange(len(COMPANIONS))])]


def _value_of(fields: Fields) -> Any:
    position = field(fields, 2)
    if position.isdigit():
        return ODD[int(position[:4]) % len(ODD)]
    try:
        return json.loads(field(fields, 1))
    except (ValueError, RecursionError):
        return field(fields, 1).decode("utf-8", "surrogateescape")


def _check_setting(fields: Fields) -> str:
    """A check tells what is wrong, or all that reads the setting can."""
    name = field(fields, 0).decode("ascii", "replace")
    setting = conf.BY_NAME.get(name) or conf.BY_NAME["CELERY_BROKER_URL"]
    companions = COMPANIONS[(field(fields, 3) or b"\0")[0] % len(COMPANIONS)]
    value = _value_of(fields)
    with override_settings(**{**companions, setting.name: value}):
        told = _told()
        if _is_wrong(setting, value):
            assert [one for one in told if one.id in {"celery.E002", "celery.E003"} and setting.name in one.msg]
        if crc32(b" ".join(fields)) % SHOWN == 0:
            celery_settings.Command(stdout=io.StringIO()).handle(json=True, changed=False)
            celery_settings.Command(stdout=io.StringIO()).handle(json=False, changed=True)
        if errors := [one for one in told if one.level >= checks.ERROR]:
            _show(errors)
            ours = [one for one in errors if setting.name in one.msg] or errors
            return f"{min(str(one.id) for one in ours)} {setting.name}"  # in no order that Django promises
        try:
            _use(setting)
        except (ImproperlyConfigured, CeleryError) as error:
            return reason_of(error)
    return ACCEPTED


def _told() -> list[CheckMessage]:
    found = checks.run_checks(tags=["celery"], include_deployment_checks=True)
    return [one for one in found if (one.id or "").startswith("celery.")]


def _show(messages: Iterable[CheckMessage]) -> None:
    for one in messages:
        assert str(one)


def _is_wrong(setting: Setting, value: Any) -> bool:
    """Tell whether the table forbids the value: of a type that it has not, or beyond its bounds."""
    if value is None:
        return False
    if not isinstance(value, setting.types) or (isinstance(value, bool) and bool not in setting.types):
        return True
    if setting.minimum is None:
        return False
    number: Any = value.total_seconds() if isinstance(value, timedelta) else value
    return not setting.minimum <= number <= setting.maximum


def _use(setting: Setting) -> None:
    """Read it as senders and workers do, without a server."""
    getattr(conf, setting.constant)
    broker.current()
    backends.default()
    assert backends.default().lifetime >= 0
    if conf.DAEMON_UMASK is not None:
        umask_of(conf.DAEMON_UMASK)
    encode(Call(task="shop.add", task_id="1", args=(1,)), conf.TASK_SERIALIZER)


TARGETS = (
    Target(name="pidfile", share=0.035, valid=_valid_pid_file, check=_check_pid_file),
    Target(
        name="setting",
        share=0.005,
        valid=_valid_setting,
        check=_check_setting,
    ),
)
