"""The options of celeryd: one table. The command line, the environment and the documentation are made from it.

What the command line says wins over the environment, and the environment over the settings. The variable of an option
is ``CELERYD_`` and its long name in capitals; an empty one says nothing.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from django.conf import settings
from django.core.management import CommandError

from celery import conf
from celery.bin import values
from celery.conf.setting import Setting

PREFIX: Final = "CELERYD_"
#: How alike a variable must be to that of an option to be taken for a slip of the hand, from 0 to 1.
ALIKE: Final = 0.8
WORDS: Final = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}
NOUNS: Final = {int: "a whole number, such as 4", float: "a number of seconds, such as 30 or 2.5"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    `constant` is that of the setting that holds where nothing is said; `means` is what a flag says of `dest`; `check`
    returns the value, or raises ValueError with a sentence.
    """

    names: tuple[str, ...]
    dest: str
    sentence: str
    kind: type = str
    metavar: str | None = None
    constant: str = ""
    means: bool = True
    check: Callable[[Any], Any] | None = None

    @property
    def long_names(self) -> tuple[str, ...]:
        """Its names without the short one."""
        return tuple(name for name in self.names if name.startswith("--"))

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that say the same; the first is the one to write."""
        return tuple(PREFIX + name.removeprefix("--").replace("-", "_").upper() for name in self.long_names)

    @property
    def setting(self) -> Setting | None:
        """The setting that holds where nothing is said."""
        return conf.BY_CONSTANT.get(self.constant)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let `parser` know this option. Not said is None, also of a flag."""
        text = f"{self.sentence} [{self.variables[0]}]".replace("%", "%%")
        if self.kind is bool:
            parser.add_argument(*self.names, dest=self.dest, action="store_const", const=self.means, help=text)
        else:
            parser.add_argument(*self.names, dest=self.dest, type=self.kind, metavar=self.metavar, help=text)

    def checked(self, value: Any) -> Any:
        """Return `value` as the worker needs it. Raises ValueError with a sentence that says what to write."""
        if self.check:
            return self.check(value)
        setting = self.setting
        if setting and setting.minimum is not None and not setting.allows(value):
            raise ValueError(f"{self.long_names[0]} must be {setting.bound(value)}, not {value}")
        return value

    def in_environment(self, environ: Mapping[str, str]) -> Any:
        """Return what the environment says of it, checked; None: nothing. Raises CommandError naming the variable."""
        for variable in self.variables:
            if text := environ.get(variable, "").strip():
                try:
                    value = self._read(text)
                    self.checked(value)
                except ValueError as error:
                    raise CommandError(f"{variable} = {text!r:.80} in the environment: {error}.") from error
                return value
        return None

    def _read(self, text: str) -> Any:
        if self.kind is bool:
            if text.lower() not in WORDS:
                raise ValueError("write 1, yes or true, or 0, no or false")
            return WORDS[text.lower()] is self.means
        try:
            return self.kind(text)
        except ValueError:
            raise ValueError(f"write {NOUNS[self.kind]}") from None


OPTIONS: Final = (
    Option(
        names=("-c", "--concurrency"),
        dest="concurrency",
        sentence="child processes: as many tasks run at a time",
        kind=int,
        metavar="N",
        constant="DAEMON_CONCURRENCY",
        check=values.children,
    ),
    Option(
        names=("-Q", "--queues"),
        dest="queues",
        sentence="queues to take from, and no others",
        metavar="A,B",
        constant="AMQP_CONSUMER_QUEUE",
        check=values.queues,
    ),
    Option(
        names=("-n", "--name"),
        dest="name",
        sentence="name of this worker in logs and tables; host name and pid if it has none",
    ),
    Option(
        names=("-l", "--loglevel"),
        dest="loglevel",
        sentence="DEBUG, INFO, WARNING, ERROR or CRITICAL",
        metavar="LEVEL",
        constant="DAEMON_LOG_LEVEL",
        check=values.level,
    ),
    Option(
        names=("-f", "--logfile"),
        dest="logfile",
        sentence="write the log there; without it to standard error, or with --daemon where the setting says",
        metavar="PATH",
        constant="DAEMON_LOG_FILE",
    ),
    Option(
        names=("--log-format",),
        dest="log_format",
        sentence="json: one JSON object a line; or a format of the logging module",
        metavar="FORMAT",
        constant="LOG_FORMAT",
        check=values.log_format,
    ),
    Option(
        names=("-p", "--pidfile"),
        dest="pidfile",
        sentence="keep the pid there while running; without it nowhere, or with --daemon where the setting says",
        metavar="PATH",
        constant="DAEMON_PID_FILE",
    ),
    Option(
        names=("-d", "--daemon", "--detach"),
        dest="detach",
        sentence="go on in the background, with a log file and a pid file",
        kind=bool,
    ),
    Option(
        names=("--umask",),
        dest="umask",
        sentence="octal mask of the modes of new files, those of tasks too; with --daemon 022 if there is none",
        metavar="MASK",
        constant="DAEMON_UMASK",
        check=values.umask,
    ),
    Option(
        names=("--drain-timeout",),
        dest="drain_timeout",
        sentence="seconds that running tasks get to finish when the worker stops",
        kind=float,
        metavar="SECONDS",
        constant="DRAIN_TIMEOUT",
    ),
    Option(
        names=("--time-limit",),
        dest="time_limit",
        sentence="seconds after which the process of a task is killed, and the task has failed",
        kind=float,
        metavar="SECONDS",
        constant="TASK_TIME_LIMIT",
    ),
    Option(
        names=("--soft-time-limit",),
        dest="soft_time_limit",
        sentence="seconds after which SoftTimeLimitExceeded is raised in a task",
        kind=float,
        metavar="SECONDS",
        constant="TASK_SOFT_TIME_LIMIT",
    ),
    Option(
        names=("--max-tasks-per-child",),
        dest="max_tasks_per_child",
        sentence="tasks after which a child process is replaced by a fresh one",
        kind=int,
        metavar="N",
        constant="MAX_TASKS_PER_CHILD",
    ),
    Option(
        names=("--max-memory-per-child",),
        dest="max_memory_per_child",
        sentence="KiB of resident memory above which a child process is replaced after its task",
        kind=int,
        metavar="KIB",
        constant="MAX_MEMORY_PER_CHILD",
        check=values.memory,
    ),
    Option(
        names=("--no-beat",),
        dest="beat",
        sentence="send no periodic tasks, only run them",
        kind=bool,
        constant="DAEMON_BEAT",
        means=False,
    ),
    Option(
        names=("--socket",),
        dest="socket",
        sentence="a unix socket where the worker answers whether it is well",
        metavar="PATH",
        check=values.socket,
    ),
    Option(
        names=("--autoreload",),
        dest="autoreload",
        sentence="for development: start anew when a Python file of the project changes",
        kind=bool,
    ),
    Option(
        names=("-w", "--wakeup-after"),
        dest="queue_wakeup_after",
        sentence="means nothing any more: a worker is told of messages, or decides itself when to look",
        kind=float,
        metavar="SECONDS",
    ),
)

BY_DEST: Final[dict[str, Option]] = {option.dest: option for option in OPTIONS}
VARIABLES: Final[dict[str, Option]] = {variable: option for option in OPTIONS for variable in option.variables}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of celeryd."""
    for option in OPTIONS:
        option.add_to(parser)


def with_environment(options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the options; the environment answers where the command line says nothing. Raises CommandError."""
    unsaid = [option for option in OPTIONS if options.get(option.dest) is None]
    return {**options, **{option.dest: option.in_environment(environ) for option in unsaid}}


def chosen(options: Mapping[str, Any], dest: str) -> Any:
    """Return the value of an option or, where nothing is said, of its setting, checked; None: nobody says anything.

    Raises CommandError.
    """
    option, value = BY_DEST[dest], options.get(dest)
    if (value is None or value == "") and option.setting:
        value = option.setting.value()
    try:
        return None if value is None else option.checked(value)
    except ValueError as error:
        raise CommandError(str(error)) from error


def misspelt(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return variables of the environment that were probably meant for us, and what to write instead.

    Others that begin like ours are left alone (Kubernetes describes a service of this name by CELERYD_PORT and the
    like), and so is the name of a setting that the project sets: it may read it there itself.
    """
    by_tail = {variable.removeprefix(PREFIX): variable for variable in VARIABLES}
    by_setting = {option.setting.name: option.variables[0] for option in OPTIONS if option.setting}
    found = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX) and name not in VARIABLES):
        near = get_close_matches(name.removeprefix(PREFIX), by_tail, n=1, cutoff=ALIKE)
        meant = by_setting.get(name) or (by_tail[near[0]] if near else None)
        if meant and getattr(settings, name, None) is None:
            found[name] = meant
    return found
