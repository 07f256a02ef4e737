"""How many e-mails a task may cause within an hour: counted in memory that all processes of a worker share."""

import mmap
import struct
import time
from hashlib import blake2b
from typing import Final, NamedTuple

HOUR: Final = 3600.0
#: Tasks that are counted each by itself; beyond that some of them share a ceiling.
SLOTS: Final = 1024
#: Slots that a task may be in, from its first one on.
STEPS: Final = 8
#: Key of the task, when its hour began on the monotonic clock of the machine, e-mails of that hour, and held back.
SLOT: Final = struct.Struct("=QdII")
MOST_COUNTED: Final = 2**32 - 1


class Answer(NamedTuple):
    """Whether an e-mail may be sent, and how many were held back: before this one, or with it."""

    is_admitted: bool
    held_back: int


class Ceiling:
    """A table of fixed size, made before the first fork.

    An hour begins with the e-mail that is sent when none is running. There is no lock: two processes that count at
    the same moment may count one, so that there is an e-mail more than allowed. Nothing is kept beyond the worker.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * SLOT.size)

    def ask(self, name: str, most: int) -> Answer:
        """Ask for one more of `most`, and count it."""
        now, key = time.monotonic(), _key(name)
        at = self._find(key, now)
        found, began, sent, held_back = SLOT.unpack_from(self._memory, at)
        if not sent or began <= now - HOUR:
            began, sent, held_back = now, 0, held_back if found == key else 0
            found = key
        is_admitted = sent < most
        if is_admitted:
            SLOT.pack_into(self._memory, at, found, began, sent + 1, 0)
        else:
            held_back = min(held_back + 1, MOST_COUNTED)
            SLOT.pack_into(self._memory, at, found, began, sent, held_back)
        return Answer(is_admitted, int(held_back))

    def _find(self, key: int, now: float) -> int:
        """Return where the slot of `key` is: its own, else a free one, else one whose hour is over, else another's."""
        places = [(key + step) % SLOTS * SLOT.size for step in range(STEPS)]
        read = {at: SLOT.unpack_from(self._memory, at) for at in places}
        own = [at for at, slot in read.items() if slot[0] == key]
        free = [at for at, slot in read.items() if not slot[0]]
        over = [at for at, slot in read.items() if slot[1] <= now - HOUR]
        return [*own, *free, *over, *places][0]


def _key(name: str) -> int:
    """Return a number that is never 0, the same in all processes."""
    return int.from_bytes(blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest(), "big") or 1
