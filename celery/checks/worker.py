"""The settings of celeryd that have the right type and still cannot be, or contradict each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import connections

from celery import conf
from celery.bin.values import LEAST_MEMORY, never_comes
from celery.checks.databases import used_aliases
from celery.checks.values import broker_url, shown, sound
from celery.log import JSON
from celery.log.text import refuse_format
from celery.platform import umask_of

#: Umasks that people choose. A number that is none of them, but reads like one, has lost its 0o on the way.
USUAL_UMASKS: Final = frozenset({0o002, 0o007, 0o022, 0o027, 0o037, 0o066, 0o067, 0o077, 0o177})
#: Seconds that a worker's steward may be busy with one chore before it can give the next proof of life.
SLICE: Final = 2.0
#: Seconds for which a connection to SQLite waits for a lock: as we set it, and as Python does.
SQLITE_TIMEOUTS: Final = {True: 20.0, False: 5.0}
#: Seconds that a steward waits for the answer of any other database.
ANSWER: Final = 20.0


@checks.register("celery")
def check_worker(**_: Any) -> list[CheckMessage]:
    """Check files, log, limits, lease and e-mails of celeryd."""
    return [*_files(), *_log_format(), *_umask(), *_limits(), *_memory(), *_lease(), *_emails()]


# -- log and files


def _files() -> Iterator[CheckMessage]:
    files = {f"CELERYD_{kind}_FILE": sound(f"DAEMON_{kind}_FILE") for kind in ("LOG", "PID")}
    for name, path in files.items():
        if path is not None and (trouble := _file_trouble(path)):
            hint = f"Write the path of a file, such as {name} = '/var/{_example(name)}', or leave it out."
            yield checks.Error(f"{name} = {shown(path)} {trouble}", hint=hint, id="celery.E016")
    log_file, pid_file = files.values()
    if log_file and log_file == pid_file:
        text = f"CELERYD_LOG_FILE and CELERYD_PID_FILE are one file, {shown(log_file)}."
        yield checks.Error(text, hint="Write two paths, or leave both out.", id="celery.E016")


def _example(name: str) -> str:
    return "log/celeryd.log" if "LOG" in name else "run/celeryd.pid"


def _file_trouble(path: str) -> str | None:
    """Return why `path` cannot be a file. Its folder may be made later, and is perhaps on another machine."""
    if not path.strip() or "\0" in path:
        return "is not the path of a file."
    try:
        return "is a directory." if path.endswith("/") or Path(path).is_dir() else None
    except (OSError, ValueError) as error:
        return f"cannot be a path: {error}."


def _log_format() -> Iterator[CheckMessage]:
    template = sound("LOG_FORMAT")
    if template is None or template == JSON:
        return
    try:
        refuse_format(template)
    except ValueError as error:
        text = f"CELERYD_DAEMON_LOG_FORMAT = {shown(template)} cannot be used by logging: {error}."
        hint = f"Write 'json', or a format like {conf.DEFAULT_LOG_FORMAT!r}."
        yield checks.Error(text, hint=hint, id="celery.E017")


def _umask() -> Iterator[CheckMessage]:
    found = sound("DAEMON_UMASK")
    try:
        if found is not None:
            umask_of(found)
    except ValueError as error:
        hint = "Write it in octal: CELERYD_UMASK = '027' or CELERYD_UMASK = 0o027."
        yield checks.Error(f"CELERYD_UMASK = {shown(found)}: {error}.", hint=hint, id="celery.E020")
    else:
        if isinstance(found, int) and found not in USUAL_UMASKS and (meant := _digits(found)) in USUAL_UMASKS:
            text = f"CELERYD_UMASK = {found} is a decimal number, and as a umask {found:03o}; {meant:03o} may be meant."
            hint = f"Write it in octal: CELERYD_UMASK = '{meant:03o}', or '{found:03o}' for what it is now."
            yield checks.Warning(text, hint=hint, id="celery.W024")


def _digits(number: int) -> int | None:
    """Return the umask that the decimal digits of `number` are."""
    try:
        return umask_of(str(number))
    except ValueError:
        return None


# -- limits


def _limits() -> Iterator[CheckMessage]:
    hard, soft = sound("TASK_TIME_LIMIT"), sound("TASK_SOFT_TIME_LIMIT")
    if never_comes(soft, hard):
        text = f"CELERYD_TASK_SOFT_TIME_LIMIT = {soft:g} never comes: after {hard:g} s the process is killed."
        hint = f"Write less than CELERYD_TASK_TIME_LIMIT = {hard:g}, with some seconds for the task to tidy up."
        yield checks.Error(text, hint=hint, id="celery.E018")


def _memory() -> Iterator[CheckMessage]:
    memory = sound("MAX_MEMORY_PER_CHILD")
    if memory and memory < LEAST_MEMORY:
        text = f"CELERYD_MAX_MEMORY_PER_CHILD = {memory} is in KiB: a child has more before its first task, and would "
        hint = f"For {memory} MiB write CELERYD_MAX_MEMORY_PER_CHILD = {memory} * 1024."
        yield checks.Error(f"{text}be replaced after each of them.", hint=hint, id="celery.E019")


def _lease() -> Iterator[CheckMessage]:
    """Compare the lease with what may hold up a proof of life: chores, a broker or a database that does not answer."""
    lease, patience = sound("LEASE"), sound("PUBLISH_TIMEOUT")
    if lease is None or patience is None:
        return
    held_up = max([SLICE + patience if _is_relayed() else SLICE, *_waits_for_databases()])
    if lease < held_up:
        yield checks.Warning(
            f"CELERYD_LEASE = {lease:g} is short: a lock in a database, or a broker that does not answer, may hold up "
            f"the proof of life of a worker for {held_up:g} s, and others would take over what it still works on.",
            hint=f"Write CELERYD_LEASE = {held_up * 1.5:g} or more, or shorten that time: it is "
            f"CELERY_PUBLISH_TIMEOUT, or 'timeout' in the OPTIONS of SQLite; other databases get {ANSWER:g} s.",
            id="celery.W020",
        )


def _is_relayed() -> bool:
    """Tell whether the steward publishes to another server than the database."""
    return not broker_url().startswith(("django://", "memory://"))


def _waits_for_databases() -> Iterator[float]:
    for alias in used_aliases():
        if connections[alias].vendor != "sqlite":
            yield ANSWER
            continue
        options = connections[alias].settings_dict.get("OPTIONS", {})
        found = options.get("timeout", SQLITE_TIMEOUTS[bool(conf.SQLITE_TUNING)])
        yield float(found) if isinstance(found, int | float) else 0.0


# -- e-mails


def _emails() -> Iterator[CheckMessage]:
    """Tell of e-mails that are asked for and have no reader. By default they are not asked for."""
    if getattr(django_settings, "SEND_CELERY_TASK_ERROR_EMAILS", None) is True and not django_settings.ADMINS:
        text = "SEND_CELERY_TASK_ERROR_EMAILS is on, but ADMINS is empty: nobody gets an e-mail about a failed task."
        hint = "Name somebody in ADMINS, or remove SEND_CELERY_TASK_ERROR_EMAILS."
        yield checks.Warning(text, hint=hint, id="celery.W019")
