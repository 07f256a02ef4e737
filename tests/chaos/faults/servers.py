"""Servers are restarted, stopped, out of memory, locked or read-only. Each of these concerns everybody.

Whatever has done harm counts as a hit, and so excuses what followed; what should not have been possible raises.
"""

import sqlite3
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.chaos import victims
from tests.chaos.faults import superuser
from tests.chaos.faults.base import Fault, Field, Struck
from tests.chaos.place import Place

#: Seconds for what a server says to appear.
PATIENCE = 10.0


class Log:
    """What is written into a log from now on."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._from = self._path.stat().st_size

    def says(self, words: str) -> int:
        """Return how many lines have these words."""
        with self._path.open("rb") as file:
            file.seek(self._from)
            return sum(words.encode() in line for line in file)


def seen_within(seconds: float, look: Callable[[], int]) -> int:
    """Return what there is to be seen as soon as it is not 0, or 0."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def latest_settled(field: Field) -> float:
    """Return when any worker last settled a task."""
    field.scene.look()
    return max((field.scene.settled_at(one.pid) for one in field.workers.supervisors()), default=0.0)


class ServerFault(Fault):
    """Everybody is concerned, from the begin of `strike` to its end."""

    #: Whom it strikes: "rabbitmq", or "database" for any database server.
    victim = "database"
    #: Is a cause of further executions. What only makes everybody wait is none.
    is_excuse = True

    def fits(self, place: Place) -> bool:
        return place.has_rabbitmq if self.victim == "rabbitmq" else place.database != "sqlite"

    def server(self, field: Field) -> Any:
        return field.place.servers["rabbitmq" if self.victim == "rabbitmq" else field.place.database]

    def strike(self, field: Field) -> Struck | None:
        since = time.monotonic()
        proof = self.outage(field)
        return Struck(since=since, until=time.monotonic(), everywhere=self.is_excuse, proof=proof) if proof else None

    @abstractmethod
    def outage(self, field: Field) -> str:
        """Bring it about, end it, and return what was seen; "" if it did not hit."""


# -- a server ends and is there again

#: What a server says when it is up again after a clean end, and after a crash.
BACK_AFTER = {
    ("rabbitmq", False): "Server startup complete",
    ("rabbitmq", True): "Server startup complete",
    ("postgresql", False): "database system was shut down at",
    ("postgresql", True): "database system was not properly shut down; automatic recovery in progress",
    ("mariadb", False): "ready for connections",
    ("mariadb", True): "Starting crash recovery",
}


class Restart(ServerFault):
    #: As a crash would end it, rather than cleanly.
    kills = False

    def outage(self, field: Field) -> str:
        server = self.server(field)
        log = Log(server.log)
        began = time.monotonic()
        if self.kills:
            server.kill()
            server.start()
        else:
            server.restart()
        away = time.monotonic() - began
        how, words = "killed" if self.kills else "stopped", BACK_AFTER[server.name, self.kills]
        if not seen_within(PATIENCE, lambda: log.says(words)):
            raise RuntimeError(f"{server.name} was {how} and is back, but its log does not say {words!r}.")
        return f"{how}, answered again after {away:.1f} s, its log: {words!r}"


class BrokerRestart(Restart):
    name = "broker restart"
    victim = "rabbitmq"
    seconds = 12.0


class BrokerKilled(BrokerRestart):
    name = "broker killed"
    kills = True
    seconds = 9.0


class DatabaseRestart(Restart):
    name = "database restart"
    seconds = 3.0
    weight = 2


class DatabaseKilled(Restart):
    name = "database killed"
    kills = True
    seconds = 4.0
    weight = 2


# -- a server that does not answer


class Paused(ServerFault):
    """All its processes are stopped, and its connections stay open."""

    shortest, longest = 2.0, 5.0

    def outage(self, field: Field) -> str:
        server = self.server(field)
        began = time.monotonic()
        try:
            family = server.pause()
            if not victims.hold(family):
                return ""
            time.sleep(field.random.uniform(self.shortest, self.longest))
            still = sum(victims.state_of(process) == "T" for process in family)
        finally:
            server.go_on()
        if still < len(family):
            return ""
        return f"{still} processes of {server.name} stood still for {time.monotonic() - began:.1f} s"


class DatabasePaused(Paused):
    name = "database paused"
    seconds = 4.0
    weight = 2


class DatabasePausedLong(Paused):
    name = "database paused for long"
    shortest, longest = 25.0, 32.0
    seconds = 29.0
    healing = 45.0


class BrokerPaused(Paused):
    name = "broker paused"
    victim = "rabbitmq"
    seconds = 4.0


class BrokerPausedLong(Paused):
    name = "broker paused for long"
    victim = "rabbitmq"
    shortest, longest = 25.0, 32.0
    seconds = 29.0
    healing = 30.0


# -- RabbitMQ


class MemoryAlarm(ServerFault):
    """RabbitMQ is above its limit: it does not read from whoever publishes."""

    name = "memory alarm"
    is_excuse = False
    victim = "rabbitmq"
    seconds = 9.0

    def outage(self, field: Field) -> str:
        server = self.server(field)
        log = Log(server.log)
        before = server.ctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
        try:
            server.ctl("set_vm_memory_high_watermark", "0.0001")
            seen_within(PATIENCE, lambda: log.says("memory resource limit alarm set"))
            blocked = seen_within(PATIENCE, lambda: _blocked(server))
            time.sleep(field.random.uniform(1, 3))
            blocked = max(blocked, _blocked(server))
        finally:
            server.ctl("set_vm_memory_high_watermark", before)
        if not seen_within(PATIENCE, lambda: log.says("memory resource limit alarm cleared")):
            raise RuntimeError("the memory alarm of RabbitMQ does not end.")
        return f"RabbitMQ set the alarm, and blocked {blocked} connections" if blocked else ""


def _blocked(server: Any) -> int:
    """Return how many connections have published, and are not read from any more."""
    return str(server.ctl("list_connections", "--silent", "state")).split().count("blocked")


class BrokerClosesConnections(ServerFault):
    """Every connection of AMQP is ended by the server, with its reason."""

    name = "broker closes connections"
    victim = "rabbitmq"
    seconds = 2.5
    weight = 3

    def outage(self, field: Field) -> str:
        server = self.server(field)
        log = Log(server.log)
        server.ctl("close_all_connections", "--global", "chaos")
        closed = seen_within(PATIENCE, lambda: log.says("CONNECTION_FORCED") or log.says('"chaos"'))
        return f"RabbitMQ's log has {closed} connections closed by us" if closed else ""


# -- databases


class BackendsTerminated(ServerFault):
    """The database ends all sessions."""

    name = "backends terminated"
    seconds = 0.5
    weight = 4

    def outage(self, field: Field) -> str:
        with superuser.of(field.place) as root:
            before = root.sessions()
            ended = root.terminate()
            seen_within(PATIENCE, lambda: not before & root.sessions())
            left = before & root.sessions()
        return f"the database ended {ended} of {len(before)} sessions, {len(left)} are left" if ended else ""


class ReadOnly(ServerFault):
    """Sessions are ended, and new ones may not write: as after a switch to a standby."""

    name = "database read-only"
    seconds = 5.0
    weight = 2
    #: The sessions that began meanwhile are ended too.
    ends_sessions = True

    def outage(self, field: Field) -> str:
        began = time.monotonic()
        with superuser.of(field.place) as root:
            try:
                root.make_read_only(is_read_only=True)
                root.terminate()
                words = root.refusal("celery_taskmeta")
                time.sleep(field.random.uniform(2, 5))
                silence = time.monotonic() - max(latest_settled(field), began)
            finally:
                root.make_read_only(is_read_only=False)
            if self.ends_sessions:
                root.terminate()
        if not words:
            raise RuntimeError("the database is read-only, and writes.")
        return f"{words!r}; nothing settled for {silence:.1f} s"


class ReadOnlySessions(ReadOnly):
    """The address leads to the right server again, but the sessions that began meanwhile stay with the wrong one."""

    name = "read-only sessions"
    ends_sessions = False


class Lock(ServerFault):
    """Somebody holds a table, for longer than the short lease of these runs: a steward that waits may lose it."""

    shortest, longest = 4.0, 6.0

    def outage(self, field: Field) -> str:
        table = field.random.choice(superuser.tables(field.place))
        with superuser.of(field.place) as root, root.locked(table):
            began = time.monotonic()
            time.sleep(field.random.uniform(self.shortest, self.longest))
            waiting, held = root.waiting(), time.monotonic() - began
        return f"{waiting} sessions waited for {table}, held for {held:.1f} s" if waiting else ""


class LockHeld(Lock):
    name = "lock held"
    seconds = 5.5
    weight = 2


class LockHeldLong(Lock):
    name = "lock held for 45 s"
    shortest, longest = 45.0, 45.0
    seconds = 46.0


# -- SQLite


class SqliteLocked(ServerFault):
    """A long transaction of somebody else."""

    name = "sqlite locked"
    is_excuse = False
    seconds = 5.0
    weight = 3
    shortest, longest = 3.0, 6.0
    how = ("IMMEDIATE", "EXCLUSIVE")

    def fits(self, place: Place) -> bool:
        return place.database == "sqlite"

    def outage(self, field: Field) -> str:
        how = field.random.choice(self.how)
        with closing(sqlite3.connect(field.place.sqlite_file, timeout=PATIENCE, isolation_level=None)) as session:
            try:
                session.execute(f"BEGIN {how}")
            except sqlite3.OperationalError:
                return ""
            began = time.monotonic()
            time.sleep(field.random.uniform(self.shortest, self.longest))
            words, held = _refusal(field.place.sqlite_file), time.monotonic() - began
            silence = time.monotonic() - max(latest_settled(field), began)
            session.execute("ROLLBACK")
        return f"{how} held for {held:.1f} s: {words!r}; nothing settled for {silence:.1f} s" if words else ""


class SqliteLockedLong(SqliteLocked):
    """Longer than the 20 seconds for which SQLite waits."""

    name = "sqlite locked for long"
    seconds = 26.0
    weight = 1
    shortest, longest = 24.0, 27.0


def _refusal(file: Path) -> str:
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as session:
        try:
            session.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return str(error)
        session.execute("ROLLBACK")
    return ""


FAULTS = (
    BrokerRestart(),
    BrokerKilled(),
    DatabaseRestart(),
    DatabaseKilled(),
    DatabasePaused(),
    DatabasePausedLong(),
    BrokerPaused(),
    BrokerPausedLong(),
    MemoryAlarm(),
    BrokerClosesConnections(),
    BackendsTerminated(),
    ReadOnly(),
    ReadOnlySessions(),
    LockHeld(),
    LockHeldLong(),
    SqliteLocked(),
    SqliteLockedLong(),
)
