"""Results in one of Django's caches: a key a result, its value text.

A cache promises little: it compares nothing, has no transaction, and may drop what it has. So `Backend.store` reads
back what it wrote, and takes only that for kept. Between comparing and writing, two writers of one attempt may both
win: reading back makes that rarer, and does not exclude it.
"""

import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, ClassVar, Final

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from celery import conf
from celery.backends.base import BaseBackend, Result, may_replace, survivors
from celery.backends.cache import client, expiry
from celery.backends.cache.client import clients
from celery.backends.records import from_text, to_text
from celery.exceptions import ResultBackendUnreachable, UnencodableResult

logger = logging.getLogger("celery.backends")

PREFIX: Final = "celery.result"
#: Ids that stand in a key as they are. memcached takes 250 bytes without spaces; KEY_PREFIX and VERSION need some.
PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
PAGE: Final = 500
PROBE_SECONDS: Final = 60
OF_CONNECTIONS: Final = {"OSError", "ConnectionError", "TimeoutError", "MemcacheUnexpectedCloseError"}
#: A cache is no archive; and some of them know no moment that is far in the future.
LONGEST_LIFETIME: Final = 365 * 24 * 3600.0


class Backend(BaseBackend):
    """Results in the entry of CACHES that CELERY_CACHE_ALIAS names."""

    is_conditional: ClassVar[bool] = False
    is_atomic: ClassVar[bool] = False

    def store(self, results: Sequence[Result]) -> set[str]:
        """Compare, set, and read back, a page at a time. What is there already as it is has won, too.

        Raises UnencodableResult for a result that this cache does not keep, ResultBackendUnreachable if it keeps none.
        """
        latest = list(survivors(results).values())
        pages = [self._store_page(latest[start : start + PAGE]) for start in range(0, len(latest), PAGE)]
        return set().union(*pages)

    def _store_page(self, results: Sequence[Result]) -> set[str]:
        keys = {key_of(result.task_id): result for result in results}
        known = self._texts(list(keys))
        stored = {key: from_text(known.get(key), result.task_id) for key, result in keys.items()}
        done = {result.task_id for key, result in keys.items() if stored[key] == result}
        wanted = {
            key: result for key, result in keys.items() if (found := stored[key]) is None or may_replace(found, result)
        }
        return done | (self._keep(wanted, known) if wanted else set())

    def fetch(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Get the results of `task_ids`, 500 at a time. Raises ResultBackendUnreachable."""
        found: dict[str, Result] = {}
        for start in range(0, len(task_ids), PAGE):
            keys = {key_of(task_id): task_id for task_id in task_ids[start : start + PAGE]}
            for key, text in self._texts(list(keys)).items():
                if result := from_text(text, keys[key]):
                    found[result.task_id] = result
                else:
                    _tell_unreadable(key)
        return found

    def cleanup(self) -> int:
        """Delete what has expired, of whomever it is, from caches that do not do that themselves: files, a table."""
        return expiry.delete_expired(self._cache())

    def check(self) -> list[CheckMessage]:
        """Refuse caches that no other process can see, and warn of those that count their entries."""
        return list(client.check())

    # -- writing

    def _keep(self, wanted: Mapping[str, Result], known: Mapping[str, Any]) -> set[str]:
        """Set results by key and return the ids of those that are there now; others were overtaken by a writer."""
        texts = {key: to_text(result) for key, result in wanted.items()}
        self._set(texts)
        found = self._texts(list(texts))
        for key, text in texts.items():
            if found.get(key) in (None, known.get(key)):
                found[key] = self._set_alone(key, text, known.get(key))
        return {
            result.task_id
            for key, result in wanted.items()
            if found[key] == texts[key] or from_text(found[key], result.task_id) == result
        }

    def _set_alone(self, key: str, text: str, known: Any) -> Any:
        """Try again to set what was not kept, and return what is there then."""
        refusal = self._set({key: text})
        found = self._texts([key]).get(key)
        if found not in (None, known):
            return found
        if _is_of_the_connection(refusal):
            raise ResultBackendUnreachable(_unreachable(refusal)) from refusal
        self._prove(refusal)
        reason = f" ({refusal})" if refusal else ""
        message = (
            f"the cache {client.shown(conf.CACHE_ALIAS)} does not keep its {len(text):,} bytes{reason}. "
            "memcached takes 1 MB unless its option -I says otherwise. Store the data elsewhere, return where they are"
        )
        raise UnencodableResult(message) from refusal

    def _set(self, texts: Mapping[str, str]) -> Exception | None:
        """Set `texts`, or some of them: what a cache answers to that proves nothing. Return what it raised."""
        try:
            self._cache().set_many(dict(texts), timeout=int(min(self.lifetime, LONGEST_LIFETIME)))
        except ImproperlyConfigured:
            raise
        except Exception as error:  # noqa: BLE001 - each client has exceptions of its own
            clients.drop()
            return error
        return None

    # -- reading

    def _texts(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is there under `keys`, whatever it is. Raises ResultBackendUnreachable."""
        for _ in range(2):  # the first connection may be a stale one
            try:
                return dict(self._cache().get_many(keys))
            except ImproperlyConfigured:
                raise
            except Exception as error:  # noqa: BLE001 - each client has exceptions of its own
                clients.drop()
                self._prove(error)
        return {key: value for key in keys for value in self._text(key)}

    def _text(self, key: str) -> Iterator[Any]:
        """Yield what is there under `key`; an entry that cannot even be read is as good as none."""
        try:
            found = self._cache().get(key)
        except Exception as error:
            clients.drop()
            if _is_of_the_connection(error):
                raise ResultBackendUnreachable(_unreachable(error)) from error
            _tell_unreadable(key)
        else:
            if found is not None:
                yield found

    # -- doubts

    def _prove(self, doubt: Exception | None) -> None:
        """Raise ResultBackendUnreachable unless a small value can be set and got now."""
        key, value = f"celery.probe:{uuid.uuid4().hex}", "1"
        try:
            cache = self._cache()
            cache.set(key, value, timeout=PROBE_SECONDS)
            is_kept = cache.get(key) == value
            cache.delete(key)
        except Exception as error:
            clients.drop()
            raise ResultBackendUnreachable(_unreachable(error)) from error
        if not is_kept:
            clients.drop()
            raise ResultBackendUnreachable(_unreachable(doubt)) from doubt

    def _cache(self) -> Any:
        return clients.get()


def key_of(task_id: str) -> str:
    """Return the key of a result: the id in plain sight, or the hash of one that memcached would not take."""
    if PLAIN.fullmatch(task_id):
        return f"{PREFIX}.{task_id}"
    return f"{PREFIX}#{sha256(task_id.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _is_of_the_connection(error: Exception | None) -> bool:
    """Tell whether `error` says nothing of the value. Not each client derives what it raises from OSError."""
    return any(cls.__name__ in OF_CONNECTIONS for cls in type(error).__mro__)


def _unreachable(error: Exception | None) -> str:
    reason = f"{type(error).__name__}: {error}" if error else "it took a value and does not have it"
    return f"the cache of results {client.shown(conf.CACHE_ALIAS)} does not work now: {reason}"


@lru_cache(maxsize=1000)
def _tell_unreadable(key: str) -> None:
    """Log it once: whoever waits looks at it many times a second."""
    logger.warning("What is in the cache under %r is not a result of ours; it counts as none.", key)
