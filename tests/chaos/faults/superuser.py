"""What the owner of a database can do to everybody else in it. Connects directly, past the relays."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.chaos.place import Place

#: Seconds that a question of ours may take: the tables may be locked, and by us.
PATIENCE = 10


class Superuser(ABC):
    """Two sessions in one database: one for questions, and one that holds a lock. A context manager."""

    def __init__(self, place: Place) -> None:
        self._server = place.servers[place.database]
        self._stack = ExitStack()
        self._session = self._stack.enter_context(closing(self._connected()))
        self._holder = self._stack.enter_context(closing(self._connected()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        return _asked(self._session, question)

    @abstractmethod
    def _connected(self, *, like_anybody: bool = False) -> Any:
        """Return a new session; `like_anybody`: with the settings that everybody gets."""

    @abstractmethod
    def sessions(self) -> set[int]:
        """Return who is connected, beside us."""

    @abstractmethod
    def terminate(self) -> int:
        """End all sessions but ours, and return how many."""

    @abstractmethod
    def make_read_only(self, *, is_read_only: bool) -> None:
        """Have all sessions that begin from now on refuse to write, or not."""

    @abstractmethod
    def locked(self, table: str) -> Any:
        """Hold a lock that lets nobody read or write a table, during a block."""

    @abstractmethod
    def waiting(self) -> int:
        """Return how many sessions wait for the lock that we hold."""

    def refusal(self, table: str) -> str:
        """Return with which words the database refuses to write, "" if it does not."""
        with closing(self._connected(like_anybody=True)) as session:
            try:
                _asked(session, f"DELETE FROM {table} WHERE 1 = 0")
            except (psycopg.Error, pymysql.Error) as error:
                return str(error.args[-1]).strip()
        return ""


class PostgresSuperuser(Superuser):
    def _connected(self, *, like_anybody: bool = False) -> Any:
        options = "" if like_anybody else "-c default_transaction_read_only=off"
        return psycopg.connect(
            self._server.dsn, autocommit=True, connect_timeout=PATIENCE, options=options, application_name="chaos"
        )

    def sessions(self) -> set[int]:
        return {row[0] for row in self.ask(f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}")}

    def terminate(self) -> int:
        (row,) = self.ask(
            f"SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OTHERS}"
        )
        return int(row[0])

    def make_read_only(self, *, is_read_only: bool) -> None:
        change = "SET default_transaction_read_only = on" if is_read_only else "RESET default_transaction_read_only"
        self.ask(f"ALTER DATABASE {self._session.info.dbname} {change}")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        self._holder.execute(f"SET lock_timeout = '{PATIENCE}s'")
        with self._holder.transaction():
            self._holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    def waiting(self) -> int:
        holder = self._holder.info.backend_pid
        (row,) = self.ask(f"SELECT count(*) FROM pg_stat_activity WHERE {holder} = ANY(pg_blocking_pids(pid))")
        return int(row[0])


OTHERS = "datname = current_database() AND backend_type = 'client backend' AND application_name <> 'chaos'"


class MariaDBSuperuser(Superuser):
    def _connected(self, *, like_anybody: bool = False) -> Any:
        parts = urlsplit(self._server.url)
        session = pymysql.connect(
            host=parts.hostname,
            port=parts.port or 0,
            user=parts.username,
            database=parts.path[1:],
            autocommit=True,
            connect_timeout=PATIENCE,
            read_timeout=2 * PATIENCE,
        )
        if not like_anybody:
            _asked(session, "SET SESSION tx_read_only = OFF")
        return session

    def _ours(self) -> set[int]:
        return {self._session.thread_id(), self._holder.thread_id()}

    def sessions(self) -> set[int]:
        rows = self.ask("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
        return {row[0] for row in rows} - self._ours()

    def terminate(self) -> int:
        victims = self.sessions()
        for session in victims:
            try:
                self.ask(f"KILL CONNECTION {session}")
            except pymysql.err.OperationalError as error:
                if error.args[0] != NO_SUCH_THREAD:
                    raise
        return len(victims - self.sessions())

    def make_read_only(self, *, is_read_only: bool) -> None:
        self.ask(f"SET GLOBAL tx_read_only = {'ON' if is_read_only else 'OFF'}")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        _asked(self._holder, f"SET SESSION lock_wait_timeout = {PATIENCE}")
        _asked(self._holder, f"LOCK TABLES {table} WRITE")
        try:
            yield
        finally:
            _asked(self._holder, "UNLOCK TABLES")

    def waiting(self) -> int:
        (row,) = self.ask(
            "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for%'"
        )
        return int(row[0])


NO_SUCH_THREAD = 1094

DIALECTS = {"postgresql": PostgresSuperuser, "mariadb": MariaDBSuperuser}


def of(place: Place) -> Superuser:
    """Return the superuser of the place's database server."""
    return DIALECTS[place.database](place)


def _asked(session: Any, question: str) -> list[tuple[Any, ...]]:
    cursor = session.cursor()
    cursor.execute(question)
    return list(cursor.fetchall()) if cursor.description else []


def tables(place: Place) -> Sequence[str]:
    """Return the tables whose lock stops tasks: with RabbitMQ the messages are elsewhere."""
    return ("celery_taskmeta",) if place.has_rabbitmq else ("celery_message", "celery_taskmeta")
