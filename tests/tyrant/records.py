"""What a Tokyo Tyrant server keeps: a dictionary of bytes, with the oddities of each type of database."""

import math
import re
import struct
from collections.abc import Callable

#: The types that the stand-in can have, as `stat` tells them.
MEMORY, MEMORY_TREE, HASH, TREE, TABLE, FIXED = (
    "on-memory hash",
    "on-memory tree",
    "hash",
    "B+ tree",
    "table",
    "fixed-length",
)
ORDERED = (MEMORY_TREE, TREE)
VOLATILE = (MEMORY, MEMORY_TREE)
LONGEST_FIXED = 255
PICO = 10**12

#: What a misc function answers: whether it succeeded, and elements.
Answer = tuple[bool, list[bytes]]
Function = Callable[[list[bytes]], Answer]


class Records:
    """The records of one database. Every method is called under the server's lock."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows: dict[bytes, bytes] = {}
        self._walk: list[bytes] = []
        self._functions: dict[bytes, Function] = {
            b"put": lambda of: (self.put(of[0], of[1]), []),
            b"putkeep": lambda of: (self.putkeep(of[0], of[1]), []),
            b"putcat": lambda of: (self.putcat(of[0], of[1]), []),
            b"get": lambda of: _found(self.rows.get(of[0])),
            b"out": lambda of: (self.out(of[0]), []),
            b"putlist": self._putlist,
            b"outlist": self._outlist,
            b"getlist": self._getlist,
            b"getpart": self._getpart,
            b"regex": self._regex,
            b"range": self._range,
            b"vanish": lambda _: (self.vanish(), []),
            b"cacheclear": lambda _: (kind not in VOLATILE, []),
            b"error": lambda _: (kind not in VOLATILE, [] if kind in VOLATILE else [b"22: no record found"]),
        }

    def keys(self) -> list[bytes]:
        """Return all keys: trees have them in order."""
        return sorted(self.rows) if self.kind in ORDERED else list(self.rows)

    def put(self, key: bytes, value: bytes) -> bool:
        if self.kind == TABLE:
            value = b""  # success, and an empty row
        if self.kind == FIXED:
            value = value[:LONGEST_FIXED]
        self.rows[key] = value
        return True

    def putkeep(self, key: bytes, value: bytes) -> bool:
        return key not in self.rows and self.put(key, value)

    def putcat(self, key: bytes, value: bytes) -> bool:
        return self.put(key, self.rows.get(key, b"") + value)

    def putshl(self, key: bytes, value: bytes, width: int) -> bool:
        return self.put(key, (self.rows.get(key, b"") + value)[-width:] if width else b"")

    def out(self, key: bytes) -> bool:
        return self.rows.pop(key, None) is not None

    def vanish(self) -> bool:
        self.rows.clear()
        return True

    def fwmkeys(self, prefix: bytes, most: int) -> list[bytes]:
        found = [key for key in self.keys() if key.startswith(prefix)]
        return found if most < 0 else found[:most]

    def iterinit(self) -> bool:
        """Begin the one walk that the database has."""
        self._walk = self.keys()
        return True

    def iternext(self) -> bytes | None:
        return self._walk.pop(0) if self._walk else None

    def addint(self, key: bytes, number: int) -> int | None:
        """Add to four bytes, little-endian, and wrap; -2^31 is stored and denied."""
        stored = self.rows.get(key, bytes(4))
        if len(stored) != 4:
            return None
        total = (struct.unpack("<i", stored)[0] + number + 2**31) % 2**32 - 2**31
        self.rows[key] = struct.pack("<i", total)
        return None if total == -(2**31) else total

    def adddouble(self, key: bytes, whole: int, fraction: int) -> tuple[int, int] | None:
        stored = self.rows.get(key, bytes(8))
        if len(stored) != 8:
            return None
        total = struct.unpack("<d", stored)[0] + whole + fraction / PICO
        self.rows[key] = struct.pack("<d", total)
        part, integer = math.modf(total)
        return int(integer), round(part * PICO)

    def misc(self, name: bytes, arguments: list[bytes]) -> Answer:
        """Call a function by its name."""
        function = self._functions.get(name)
        try:
            return function(arguments) if function and self.kind not in {TABLE, FIXED} else (False, [])
        except IndexError:
            return False, []

    def _putlist(self, arguments: list[bytes]) -> Answer:
        for key, value in zip(arguments[::2], arguments[1::2], strict=False):
            self.put(key, value)
        return True, []

    def _outlist(self, arguments: list[bytes]) -> Answer:
        for key in arguments:
            self.out(key)
        return True, []

    def _getlist(self, arguments: list[bytes]) -> Answer:
        return True, [piece for key in arguments if key in self.rows for piece in (key, self.rows[key])]

    def _getpart(self, arguments: list[bytes]) -> Answer:
        value, start, size = self.rows.get(arguments[0]), int(arguments[1]), int(arguments[2])
        return _found(None if value is None else value[start : start + size])

    def _regex(self, arguments: list[bytes]) -> Answer:
        found = [key for key in self.keys() if re.search(arguments[0], key)][: int(arguments[1])]
        return True, [piece for key in found for piece in (key, self.rows[key])]

    def _range(self, arguments: list[bytes]) -> Answer:
        if self.kind not in ORDERED:
            return False, []
        start, most, end = arguments[0], int(arguments[1]), arguments[2]
        found = [key for key in self.keys() if start <= key < end]
        return True, [piece for key in (found if most < 0 else found[:most]) for piece in (key, self.rows[key])]


def _found(value: bytes | None) -> Answer:
    return (False, []) if value is None else (True, [value])
