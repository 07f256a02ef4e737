"""The machine of a worker fails it: full disks, clocks that are wrong, no descriptors left."""

import os
import re
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

from tests.chaos import victims
from tests.chaos.faults import superuser
from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.faults.servers import PATIENCE, Log, latest_settled
from tests.chaos.place import Place
from tests.servers.faketime import Faketime
from tests.servers.install import NotInstalledError, ensure_installed
from tests.servers.processes import Identity

MEGABYTE = 1024 * 1024


# -- full disks


@cache
def may_mount() -> bool:
    """Tell whether we may mount a file system; if not, say so once."""
    folder = Path(tempfile.mkdtemp(prefix="celery-chaos-mount-"))
    try:
        _mount(folder, MEGABYTE)
        _unmount(folder)
    except (OSError, subprocess.CalledProcessError):
        print("chaos: file systems cannot be mounted here, so no disk becomes full.", flush=True)
        return False
    finally:
        folder.rmdir()
    return True


def _mount(folder: Path, size: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def fill(folder: Path) -> None:
    """Take all the room that there is on a disk; `free` gives it back."""
    with (folder / "filling").open("ab") as file, suppress(OSError):
        while room := shutil.disk_usage(folder).free:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)


def free(folder: Path) -> None:
    (folder / "filling").unlink(missing_ok=True)


def _stay_full(field: Field, folder: Path) -> float:
    """Keep a disk full for some seconds, whatever is deleted meanwhile; return how many."""
    began = time.monotonic()
    until = began + field.random.uniform(2, 5)
    while time.monotonic() < until:
        fill(folder)
        time.sleep(0.02)
    return time.monotonic() - began


class DiskFull(Fault):
    """The disk of the SQLite file is full."""

    name = "disk full"
    small_disk = True
    seconds = 5.0
    weight = 2

    def fits(self, place: Place) -> bool:
        return place.database == "sqlite" and may_mount()

    def strike(self, field: Field) -> Struck | None:
        file = field.place.sqlite_file
        if not file.parent.is_mount():  # never fill a disk that is not our own
            return None
        since = time.monotonic()
        try:
            seconds = _stay_full(field, file.parent)
            silence = time.monotonic() - max(latest_settled(field), since)
            words = _refusal_of_room(file)
        finally:
            free(file.parent)
        if not words:
            return None
        proof = f"full for {seconds:.1f} s: {words!r}; nothing settled for {silence:.1f} s"
        return Struck(since=since, until=time.monotonic(), everywhere=True, proof=proof)


def _refusal_of_room(file: Path) -> str:
    """Return with which words SQLite refuses to let a file grow, "" if it does not."""
    with closing(sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)) as session:
        try:
            session.execute("BEGIN IMMEDIATE")
            session.execute("CREATE TABLE chaos_probe AS SELECT zeroblob(8000000)")  # more than the cache holds
        except sqlite3.OperationalError as error:
            return str(error)
        finally:
            if session.in_transaction:
                session.execute("ROLLBACK")
    return ""


class TablespaceFull(Fault):
    """The disk is full on which PostgreSQL keeps messages and results; that of its log, and so it lives, is not."""

    name = "tablespace full"
    seconds = 9.0
    tables = ("celery_message", "celery_taskmeta")

    def fits(self, place: Place) -> bool:
        return place.database == "postgresql" and may_mount()

    def strike(self, field: Field) -> Struck | None:
        log = Log(field.place.servers["postgresql"].log)
        since = time.monotonic()
        with superuser.of(field.place) as root, self._on_small_disk(field, root) as folder:
            try:
                seconds = _stay_full(field, folder)
            finally:
                free(folder)
            refused = log.says("No space left on device")
        if not refused:
            return None
        proof = f"full for {seconds:.1f} s; PostgreSQL had 'No space left on device' {refused} times"
        return Struck(since=since, until=time.monotonic(), everywhere=True, proof=proof)

    @contextmanager
    def _on_small_disk(self, field: Field, root: superuser.Superuser) -> Iterator[Path]:
        """Move the tables to a small disk for a while."""
        server = field.place.servers["postgresql"]
        folder = Path(server.folder) / "small"
        folder.mkdir(exist_ok=True)
        need = sum(int(root.ask(f"SELECT pg_total_relation_size('{table}')")[0][0]) for table in self.tables)
        with ExitStack() as stack:
            _mount(folder, 2 * need + 32 * MEGABYTE)
            stack.callback(_unmount, folder)
            (folder / "tables").mkdir(mode=0o700)
            server.give_away(folder / "tables")
            root.ask(f"CREATE TABLESPACE small LOCATION '{folder / 'tables'}'")
            stack.callback(root.ask, "DROP TABLESPACE small")
            for table in self.tables:
                root.ask(f"ALTER TABLE {table} SET TABLESPACE small")
                stack.callback(root.ask, f"ALTER TABLE {table} SET TABLESPACE pg_default")
            yield folder


# -- clocks


class ClockSteps(Fault):
    """The clock of one worker goes an hour ahead and an hour behind, and is right again. Excuses nothing.

    For the purpose the worker is started anew, and once more when it is over.
    """

    name = "clock steps"
    seconds = 25.0
    #: The worker's monotonic clock goes along.
    is_monotonic_too: ClassVar[bool] = False

    def fits(self, place: Place) -> bool:
        return _has_faketime()

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        if aim is None:
            return None
        name = field.workers.name_of(aim.pid)
        clock = _Clock(field.place.folder / name)
        clock.set(0)
        since = time.monotonic()
        worker = field.workers.restart(name, clock.variables(is_monotonic_too=self.is_monotonic_too))
        try:
            self._wait_until_it_works(field, worker, "started with another clock")
            seen = [self._step(field, worker, clock, step) for step in self._steps(field)]
            if not self.is_monotonic_too:
                clock.set(0)
                time.sleep(1 + CACHE)  # for the worker to see it
        finally:
            field.workers.restart(name, {})
        return Struck(since=since, until=time.monotonic(), proof=f"its log was dated {' and '.join(seen)}")

    def _steps(self, field: Field) -> list[int]:
        """Return by how much to be wrong. No monotonic clock goes back; one of a machine that was moved may leap."""
        return [HOUR, 2 * HOUR] if self.is_monotonic_too else field.random.sample([HOUR, -HOUR], 2)

    def _step(self, field: Field, worker: int, clock: "_Clock", seconds: int) -> str:
        """Make the clock wrong for a while, and return by how much the worker's log is."""
        clock.set(seconds)
        time.sleep(field.random.uniform(CACHE + 1, CACHE + 3))
        self._wait_until_it_works(field, worker, f"with a clock that is {seconds:+d} s wrong")
        wrong = clock.wrong_in_log()
        if abs(wrong - seconds) > TOLERANCE:
            raise RuntimeError(f"the clock of worker {worker} was stepped by {seconds} s, its log by {wrong:.0f} s.")
        return f"{wrong:+.0f} s"

    def _wait_until_it_works(self, field: Field, worker: int, when: str) -> None:
        """Wait until a worker settles a task from now on; it is `left` if it does not."""
        since = time.monotonic()
        while time.monotonic() < since + self.healing:
            field.scene.look()
            if field.scene.settled_at(worker) > since:
                return
            time.sleep(0.02)
        field.history.note("left", what="healing", text=f"{self.name}: worker {worker} does nothing {when}")


class MonotonicClockSteps(ClockSteps):
    name = "clock steps, the monotonic one too"
    is_monotonic_too = True


class _Clock:
    """What one worker believes the time to be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "celeryd.log"

    def variables(self, *, is_monotonic_too: bool) -> dict[str, str]:
        """Return the environment that makes a worker believe it."""
        found = {
            "LD_PRELOAD": str(Faketime.library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._folder / "clock"),
            "FAKETIME_CACHE_DURATION": str(CACHE),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return found | ({"CHAOS_CLOCK": str(self._folder / "monotonic")} if is_monotonic_too else {})

    def set(self, seconds: int) -> None:
        """Be so many seconds ahead of everybody else."""
        for name, text in (("clock", f"{seconds:+d}"), ("monotonic", str(seconds))):
            draft = self._folder / f"{name}.new"
            draft.write_text(f"{text}\n", encoding="ascii")
            draft.replace(self._folder / name)

    def wrong_in_log(self) -> float:
        """Return by how many seconds the newest line of the worker's log is ahead."""
        dated = DATE.findall(self._log.read_text(encoding="utf-8", errors="replace")[-LINES:])
        return (
            datetime.strptime(dated[-1], "%Y-%m-%d %H:%M:%S").astimezone() - datetime.now().astimezone()
        ).total_seconds()


HOUR: Final = 3600
#: Seconds for which libfaketime remembers what is in its file.
CACHE: Final = 1
#: Seconds by which the newest line of a log may be older than now.
TOLERANCE: Final = 30.0
#: How a line of the log begins, and the characters to look for one in.
DATE: Final = re.compile(r"^\[(\d+-\d+-\d+ \d+:\d+:\d+),", re.MULTILINE)
LINES: Final = 4000


@cache
def _has_faketime() -> bool:
    try:
        ensure_installed([Faketime])
    except NotInstalledError as error:
        print(f"chaos: no clock is stepped here: {error}", flush=True)
        return False
    return True


# -- descriptors


class DescriptorsExhausted(Fault):
    """A process has no descriptor left for some seconds, and its links are cut, so that it needs new ones."""

    name = "descriptors exhausted"
    seconds = 6.0
    weight = 2
    roles: ClassVar[tuple[str, ...]] = ("child", "dispatcher", "steward", "supervisor")

    def strike(self, field: Field) -> Struck | None:
        aim = field.a_supervisor()
        if aim is None:
            return None
        field.scene.look()
        role = field.random.choice(self.roles)
        candidates = [aim] if role == "supervisor" else field.scene.living(aim.pid, role)
        victim = field.random.choice(candidates) if candidates else None
        before = _limit(victim) if victim else None
        if victim is None or before is None:
            return None
        name = field.workers.name_of(aim.pid)
        log = Log(field.place.folder / name / "celeryd.log")
        since, had = time.monotonic(), _descriptors(victim)
        try:
            _limit(victim, (NO_MORE, before[1]))
            killed = self._need_some(field, name, field.scene.living(aim.pid, "child") if victim == aim else [])
            time.sleep(field.random.uniform(2, 5))
            used = _descriptors(victim)
        finally:
            _limit(victim, before)
        refused = sum(log.says(words) for words in REFUSALS)
        return Struck(
            since=since,
            until=time.monotonic(),
            victims=field.pids([victim, *killed]),
            workers=frozenset({aim.pid}),
            proof=f"the {role} had {had} descriptors, later {used}, and could open none; {refused} lines of log say so",
        )

    def _need_some(self, field: Field, name: str, children: list[Identity]) -> list[Identity]:
        """Have connections made anew, and if the supervisor is struck a child; return what was killed."""
        for (who, _), link in field.place.relays.items():
            if who == name:
                link.cut()
        chosen = field.random.sample(children, min(len(children), 1))
        return chosen if victims.kill(chosen) else []


#: A limit that is below any descriptor that could be opened.
NO_MORE: Final = 3
REFUSALS: Final = ("Too many open files", "unable to open database file")


def _limit(process: Identity, pair: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Set how many descriptors a process may have, and return how many it might until now; None if it is gone."""
    try:
        return resource.prlimit(process.pid, resource.RLIMIT_NOFILE, *([pair] if pair else []))
    except ProcessLookupError:
        return None


def _descriptors(process: Identity) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:
        return 0


FAULTS = (DiskFull(), TablespaceFull(), ClockSteps(), MonotonicClockSteps(), DescriptorsExhausted())
