"""Results in Tokyo Tyrant, each with the moment of its expiry before it, and an index by that moment to purge them.

Keys are ``celery:r:<task id>`` for results, ``celery:x:<minute>`` for the ids whose results expire in that minute, and
``celery:purged`` for the minute up to which none is left. The server knows neither transactions nor conditions: of two
writers of one id at the same instant the last one wins, whatever its attempt.
"""

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from django.core import checks
from django.core.checks import CheckMessage

from celery import conf
from celery.backends.base import BaseBackend, Result, may_replace, survivors
from celery.backends.records import from_text, to_text
from celery.backends.tyrant.client import Client
from celery.backends.tyrant.protocol import LARGEST, Request, get, getpart, mget, out, put, putcat, putkeep, vsiz
from celery.exceptions import ImproperlyConfigured, ResultBackendUnreachable, ResultBackendUnusable

logger = logging.getLogger("celery.backends")

RESULT: Final = b"celery:r:"
BUCKET: Final = b"celery:x:"
PURGED: Final = b"celery:purged"

#: Bytes of the expiry, seconds since 1970, before a result; of the length before an id in a bucket.
HEADER: Final = 8
LENGTH: Final = 2
LONGEST_ID: Final = 0xFFFF
#: A moment for what never expires.
NEVER: Final = 2**62

MINUTE: Final = 60
#: Elapsed minutes that are left alone, because clocks differ.
GRACE: Final = 1
#: Minutes before the last purge that are looked at again, for what clocks that are slow have put there since.
LOOK_BACK: Final = 7 * 24 * 60
#: The most minutes that one cleanup looks at.
FARTHEST: Final = 366 * 24 * 60

LAST_PORT: Final = 65535

#: Results that are asked for at once, and that are written at once.
READ: Final = 100
PAGE: Final = 500


class Backend(BaseBackend):
    """Results in the Tokyo Tyrant server at TT_HOST and TT_PORT, or the one that is given.

    Raises ImproperlyConfigured where neither names one.
    """

    is_conditional: ClassVar[bool] = False
    is_atomic: ClassVar[bool] = False

    def __init__(self, tyrant_host: str | None = None, tyrant_port: int | str | None = None) -> None:
        self._host = tyrant_host
        self._port = tyrant_port
        self._mine = threading.local()
        if not all(self._address()):
            raise ImproperlyConfigured(
                "the backend tyrant needs to know its server: set TT_HOST and TT_PORT, or choose another CELERY_BACKEND"
            )

    def _address(self) -> tuple[Any, Any]:
        return self._host or conf.TT_HOST, self._port or conf.TT_PORT

    def get_server(self) -> Client:
        """Return this thread's client of the server; it connects when it is used. Raises ImproperlyConfigured."""
        host, port = self._address()
        if trouble := _trouble(host, port):
            raise ImproperlyConfigured(trouble)
        wanted = (host, int(port), float(conf.TT_TIMEOUT))
        if getattr(self._mine, "wanted", None) != wanted:
            self._mine.wanted = wanted
            self._mine.client = Client(host, int(port), timeout=wanted[2])
            self._mine.known_epoch = 0
        client: Client = self._mine.client
        return client

    def check(self) -> list[CheckMessage]:
        """Tell what is wrong with TT_HOST and TT_PORT."""
        trouble = _trouble(*self._address())
        hint = "Write, for example, TT_HOST = 'localhost' and TT_PORT = 1978."
        return [checks.Error(trouble, hint=hint, id="celery.E009")] if trouble else []

    # -- storing

    def store(self, results: Sequence[Result]) -> set[str]:
        """Store what may replace what is stored.

        Raises ValueError before anything is sent if a result cannot be kept, and ResultBackendUnreachable, when some
        of the group may be stored. What is stored already, word for word, is stored again: whoever repeats a group
        that failed repeats its place in the index, too.
        """
        expiry = self._expiry()
        wanted = survivors(results)
        encoded = {task_id: _encoded(result, expiry) for task_id, result in wanted.items()}
        winners: set[str] = set()
        for page in _pages(list(wanted), PAGE):
            known = self.fetch(page)
            winning = [
                task_id
                for task_id in page
                if not (stored := known.get(task_id))
                or may_replace(stored, wanted[task_id])
                or stored == wanted[task_id]
            ]
            self._write({task_id: encoded[task_id] for task_id in winning}, expiry)
            winners.update(winning)
        return winners

    def _expiry(self) -> int:
        return math.ceil(min(time.time() + self.lifetime, NEVER))

    def _write(self, values: dict[str, bytes], expiry: int) -> None:
        """Write the ids into their bucket, then the values: who dies in between leaves no result that never expires.

        Where the connection was lost meanwhile the server may have come back empty, so all of it is written again.
        """
        if not values:
            return
        server = self.get_server()
        # an id that is twice in a bucket does no harm
        index = putcat(_bucket(expiry // MINUTE), b"".join(map(_entry, values)), may_repeat=True)
        requests = [index, *(put(_key(task_id), value) for task_id, value in values.items())]
        for _ in range(2):
            self._introduce(server, index)
            if not all(server.run(requests)):
                raise ResultBackendUnreachable(
                    "Tokyo Tyrant refused to store a result: is its disk full, or put forbidden (-mask)? See its log"
                )
            if server.epoch == self._mine.known_epoch:
                return
        raise ResultBackendUnreachable("the connection to Tokyo Tyrant was lost twice while results were stored")

    def _introduce(self, server: Client, index: Request[bool]) -> None:
        """On a new connection, begin the count of purged minutes, and see what is forbidden: mget would not tell."""
        if server.epoch and server.epoch == self._mine.known_epoch:
            return
        minute = str(int(time.time()) // MINUTE).encode()
        _, is_writable = server.run([putkeep(PURGED, minute, may_repeat=True), index])
        epoch = server.epoch
        if not is_writable or not server.call(get(PURGED)) or not server.call(mget([PURGED])):
            raise ResultBackendUnusable(
                "Tokyo Tyrant does not store, or does not give back what it stores: allow the commands putkeep, putcat,"
                " get and mget (-mask), and open the database for writing"
            )
        self._mine.known_epoch = epoch

    # -- reading

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Return the stored results that have not expired, asking for 100 at a time."""
        asked = list(dict.fromkeys(task_ids))
        return {found.task_id: found for page in _pages(asked, READ) for found in self._read(page)}

    def _read(self, task_ids: Sequence[str]) -> Iterator[Result]:
        keys = {_key(task_id): task_id for task_id in task_ids if len(_bytes(task_id)) <= LONGEST_ID}
        now = time.time()
        for key, value in self.get_server().call(mget(keys)).items() if keys else ():
            if _is_over(value, now):
                continue
            if found := from_text(value[HEADER:], keys[key]):
                yield found
            else:
                _tell_unreadable(key)

    # -- purging

    def cleanup(self) -> int:
        """Delete expired results and return how many; two at once share the work.

        It asks for each minute since the last time, so its cost is that of what has expired, whatever else is stored.
        A result that is written anew in the instant of its expiry may be deleted with the old one.
        """
        server = self.get_server()
        last = int(time.time()) // MINUTE - 1 - GRACE
        count = 0
        for minutes in _pages(range(self._first_minute(server, last), last + 1), LOOK_BACK):
            sizes = server.run([vsiz(_bucket(minute)) for minute in minutes])
            for minute, size in zip(minutes, sizes, strict=True):
                if size is not None:
                    count += self._purge(server, _bucket(minute))
        server.call(put(PURGED, str(last).encode()))
        return count

    def _first_minute(self, server: Client, last: int) -> int:
        text = server.call(get(PURGED)) or b""
        if text and (server.call(vsiz(PURGED)) is None or not _head(server.call(getpart(PURGED, 0, HEADER)))):
            raise ResultBackendUnusable("results cannot be purged: allow Tokyo Tyrant the commands vsiz, misc (-mask)")
        purged = int(text) if text.isdigit() and len(text) < len(str(NEVER)) else last
        return max(min(purged, last) - LOOK_BACK, last - FARTHEST)

    def _purge(self, server: Client, bucket: bytes) -> int:
        entries = server.call(get(bucket)) or b""
        now = time.time()
        count = 0
        for keys in _pages(list(dict.fromkeys(_keys(entries))), PAGE):
            headers = server.run([getpart(key, 0, HEADER) for key in keys])
            expired = [key for key, header in zip(keys, headers, strict=True) if _is_over(_head(header), now)]
            count += sum(server.run([out(key, may_repeat=True) for key in expired]))
        if server.call(vsiz(bucket)) != len(entries):
            return count  # somebody else purged it, or wrote to it: the next cleanup looks again
        if not server.call(out(bucket, may_repeat=True)) and server.call(vsiz(bucket)) is not None:
            raise ResultBackendUnusable("results cannot be purged: allow Tokyo Tyrant the command out (-mask)")
        return count


def _trouble(host: Any, port: Any) -> str | None:
    """Return what is wrong with the address of the server."""
    if not isinstance(host, str) or not host.strip():
        return f"TT_HOST = {_shown(host)} is not the name of a host."
    if not _is_port(port):
        return f"TT_PORT = {_shown(port)} is not the number of a port, from 1 to 65535."
    return None


def _is_port(port: Any) -> bool:
    if isinstance(port, str):
        return port.isascii() and port.isdigit() and 0 < int(port[:9]) <= LAST_PORT
    return isinstance(port, int) and not isinstance(port, bool) and 0 < port <= LAST_PORT


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - a number of too many digits, or whatever else settings may hold
        return f"<a {type(value).__name__}>"


def _pages(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# -- keys


def _key(task_id: str) -> bytes:
    return RESULT + _bytes(task_id)


def _bytes(task_id: str) -> bytes:
    return task_id.encode("utf-8", "surrogatepass")


def _bucket(minute: int) -> bytes:
    return BUCKET + str(minute).encode()


def _entry(task_id: str) -> bytes:
    """Return an id as it is appended to a bucket: after its length."""
    found = _bytes(task_id)
    return len(found).to_bytes(LENGTH) + found


def _keys(entries: bytes) -> Iterator[bytes]:
    """Yield the keys of the results in a bucket, up to where it cannot be read."""
    at = 0
    while at < len(entries):
        start = at + LENGTH
        at = start + int.from_bytes(entries[at:start])
        if at > len(entries):
            logger.warning("A bucket of expired results ends in the middle of an id; the rest of it is dropped.")
            return
        yield RESULT + entries[start:at]


# -- values


def _encoded(result: Result, expiry: int) -> bytes:
    """Return a value as it is stored. Raises ValueError where the server would not take it."""
    value = expiry.to_bytes(HEADER) + to_text(result).encode()
    if len(value) > LARGEST:
        raise ValueError(
            f"a result of {len(value)} bytes is too large: Tokyo Tyrant takes at most {LARGEST}. Store the data"
            " elsewhere and return where they are."
        )
    if len(_bytes(result.task_id)) > LONGEST_ID:
        raise ValueError(f"the id {result.task_id!r:.80} is too long: {LONGEST_ID} bytes are the most")
    return value


def _is_over(value: bytes, now: float) -> bool:
    """Tell whether what begins with `value` is a result that has expired."""
    return len(value) >= HEADER and int.from_bytes(value[:HEADER]) <= now


def _head(answer: tuple[bool, list[bytes]]) -> bytes:
    """Return the first bytes of a value from the answer of getpart; none if there is no value."""
    _, elements = answer
    return elements[0] if elements else b""


@lru_cache(maxsize=1000)
def _tell_unreadable(key: bytes) -> None:
    """Log it once: whoever waits looks at it many times a second."""
    logger.warning("What is in Tokyo Tyrant under %r is not a result of ours; it counts as none.", key)
