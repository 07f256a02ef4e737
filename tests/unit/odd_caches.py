"""Caches that do what caches of Django may do, and hold it all in a dictionary, which each test empties."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache


class Plain(BaseCache):
    """A cache in order. It counts what it is asked for."""

    entries: ClassVar[dict[str, Any]] = {}
    calls: ClassVar[list[str]] = []

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        self.calls.append("get")
        return self.entries.get(key, default)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[Any, Any]:
        self.calls.append("get_many")
        return {key: self.entries[key] for key in keys if key in self.entries}

    def set(self, key: str, value: Any, timeout: Any = None, version: int | None = None) -> None:
        self.calls.append("set")
        self.entries[key] = value

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        self.calls.append("set_many")
        self.entries.update(data)
        return []

    def delete(self, key: str, version: int | None = None) -> bool:
        return self.entries.pop(key, None) is not None

    @property
    def results(self) -> dict[str, Any]:
        return {key: value for key, value in self.entries.items() if key.startswith("celery.result")}


class Silent(Plain):
    """Says nothing and keeps nothing, as pymemcache with ``ignore_exc`` does without its server."""

    def set(self, key: str, value: Any, timeout: Any = None, version: int | None = None) -> None:
        pass

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        return []


class Small(Plain):
    """Keeps nothing above a thousand characters, and says nothing of it; what was there stays, as in a table."""

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        return super().set_many({key: value for key, value in data.items() if len(value) < 1000})


class ReadOnly(Plain):
    """Raises what is no OSError, whatever it is told to keep."""

    def set(self, key: str, value: Any, timeout: Any = None, version: int | None = None) -> None:
        raise LookupError("READONLY You can't write against a read only replica.")

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        raise LookupError("READONLY You can't write against a read only replica.")


class Broken(Plain):
    """Cannot read entries that begin with an exclamation mark, as if their pickles were broken."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._read(super().get(key, default))

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[Any, Any]:
        return {key: self._read(value) for key, value in super().get_many(keys).items()}

    def _read(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("!"):
            raise EOFError("Ran out of input")
        return value


class Stale(Plain):
    """The connection that its first use has is gone."""

    failures: ClassVar[list[Exception]] = []

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[Any, Any]:
        found = super().get_many(keys)
        if self.failures:
            raise self.failures.pop()
        return found


class Flapping(Plain):
    """Loses each connection while it sets results; everything else works."""

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        raise ConnectionResetError(104, "Connection reset by peer")


class Overtaken(Plain):
    """Another writer stores its result right after ours."""

    other: ClassVar[dict[str, Any]] = {}

    def set_many(self, data: Mapping[str, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        super().set_many(data)
        self.entries.update(self.other)
        return []


class InMemory(LocMemCache):
    """A cache in memory under another name."""
