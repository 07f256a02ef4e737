"""Tokyo Tyrant's binary protocol: the commands that the result backend needs, as bytes, and reading their answers.

What is too large for the server is refused here, for it would run the bytes behind such a header as commands. An
answer is untrusted: nothing is reserved for what it announces, and it has to come in time.
"""

import socket
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

#: What the server takes at most: bytes of a key, value or argument; arguments of mget and misc; bytes of a name.
LARGEST: Final = 256 * 1024 * 1024
MOST_ARGUMENTS: Final = 2**20
LONGEST_NAME: Final = 1023

#: Bytes that one answer may have in all.
LARGEST_ANSWER: Final = 1024**3
#: Bytes a second: what moves faster gets more time than the timeout, so that large values arrive and trickles end.
SLOWEST: Final = 1024 * 1024
RECEIVE: Final = 64 * 1024
MOST_RECEIVED: Final = 1024 * 1024

_SIZE: Final = struct.Struct(">I")
_TWO: Final = struct.Struct(">II")
_MISC: Final = struct.Struct(">III")

Value_co = TypeVar("Value_co", covariant=True)


class NonsenseError(Exception):
    """What was answered does not belong to the protocol, or to the request."""


@dataclass(frozen=True, slots=True)
class Request(Generic[Value_co]):
    """One request: its bytes, how its answer is read, and whether doing it twice does no harm."""

    data: bytes
    read: "Callable[[Answers], Value_co]"
    may_repeat: bool = True


# -- requests. ValueError: something is too large for the server


def put(key: bytes, value: bytes) -> Request[bool]:
    """Store a value; the answer is whether the server did."""
    return Request(_with_value(0x10, key, value), _succeeded)


def putkeep(key: bytes, value: bytes, *, may_repeat: bool = False) -> Request[bool]:
    """Store a value where there is none; the answer is whether there was none. Repeated it may deny its own success."""
    return Request(_with_value(0x11, key, value), _succeeded, may_repeat)


def putcat(key: bytes, value: bytes, *, may_repeat: bool = False) -> Request[bool]:
    """Append to a value; the answer is whether the server did. Repeated it may append twice."""
    return Request(_with_value(0x12, key, value), _succeeded, may_repeat)


def out(key: bytes, *, may_repeat: bool = False) -> Request[bool]:
    """Remove a value; the answer is whether there was one. Repeated it may deny its own success."""
    return Request(_with_key(0x20, key), _succeeded, may_repeat)


def get(key: bytes) -> Request[bytes | None]:
    """Ask for a value; None if there is none."""
    return Request(_with_key(0x30, key), _value)


def vsiz(key: bytes) -> Request[int | None]:
    """Ask for the size of a value; None if there is none."""
    return Request(_with_key(0x38, key), _size)


def mget(keys: Collection[bytes]) -> Request[dict[bytes, bytes]]:
    """Ask for many values; what is missing is absent."""
    asked = frozenset(keys)
    _check_count(len(keys), "keys")
    data = [b"\xc8\x31", _SIZE.pack(len(keys))]
    for key in keys:
        data += (_SIZE.pack(_checked(key, "a key")), key)
    return Request(b"".join(data), lambda answers: _values(answers, asked, len(keys)))


def misc(name: bytes, *arguments: bytes) -> Request[tuple[bool, list[bytes]]]:
    """Call a function of the server that changes nothing; the answer is whether it succeeded, and its elements."""
    if len(name) > LONGEST_NAME:
        raise ValueError(f"Tokyo Tyrant takes names of at most {LONGEST_NAME} bytes, and this has {len(name)}")
    _check_count(len(arguments), "arguments")
    data = [b"\xc8\x90", _MISC.pack(len(name), 0, len(arguments)), name]
    for argument in arguments:
        data += (_SIZE.pack(_checked(argument, "an argument")), argument)
    return Request(b"".join(data), _elements)


def getpart(key: bytes, offset: int, size: int) -> Request[tuple[bool, list[bytes]]]:
    """Ask for a piece of a value: one element. Success without an element is what a server says that forbids misc."""
    return misc(b"getpart", key, str(offset).encode(), str(size).encode())


def stat() -> Request[dict[str, str]]:
    """Ask for the state of the server, by name."""
    return Request(b"\xc8\x88", _lines)


def _with_key(command: int, key: bytes) -> bytes:
    return b"".join((b"\xc8", bytes((command,)), _SIZE.pack(_checked(key, "a key")), key))


def _with_value(command: int, key: bytes, value: bytes) -> bytes:
    sizes = _TWO.pack(_checked(key, "a key"), _checked(value, "a value"))
    return b"".join((b"\xc8", bytes((command,)), sizes, key, value))


def _checked(piece: bytes, what: str) -> int:
    if len(piece) > LARGEST:
        raise ValueError(f"{what} of {len(piece)} bytes is too large: Tokyo Tyrant takes at most {LARGEST}")
    return len(piece)


def _check_count(count: int, what: str) -> None:
    if count > MOST_ARGUMENTS:
        raise ValueError(f"{count} {what} are too many: Tokyo Tyrant takes at most {MOST_ARGUMENTS} at once")


# -- answers


class Answers:
    """Reads from a socket. It holds what has arrived, never what was announced."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._socket = sock
        self._patience = patience
        self._held = bytearray()
        self._at = 0
        self._received = 0
        self._deadline = 0.0

    def begin(self) -> None:
        """Give the answers of the next requests their time."""
        self._deadline = time.monotonic() + self._patience
        self._received = 0

    def end(self) -> None:
        """Raise NonsenseError if there is more than was read."""
        if self._at != len(self._held):
            raise NonsenseError(f"{len(self._held) - self._at} bytes more than an answer has")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises OSError where they do not come in time or the stream ends."""
        while (wanted := size - (len(self._held) - self._at)) > 0:
            self._receive(wanted)
        start, self._at = self._at, self._at + size
        with memoryview(self._held) as held:
            return bytes(held[start : self._at])

    def _receive(self, wanted: int) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._socket.settimeout(left)
        chunk = self._socket.recv(min(max(wanted, RECEIVE), MOST_RECEIVED))
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._received += len(chunk)
        if self._received > LARGEST_ANSWER:
            raise NonsenseError(f"an answer of more than {LARGEST_ANSWER} bytes")
        self._deadline += len(chunk) / SLOWEST
        del self._held[: self._at]
        self._at = 0
        self._held += chunk

    def has_succeeded(self) -> bool:
        """Read a code: 0 is success, 1 every kind of failure."""
        code = self.take(1)[0]
        if code > 1:
            raise NonsenseError(f"the code {code:#04x}")
        return code == 0

    def size(self, largest: int = LARGEST, what: str = "bytes") -> int:
        """Read a size or a count that is at most `largest`."""
        found: int = _SIZE.unpack(self.take(4))[0]
        if found > largest:
            raise NonsenseError(f"{found} {what} announced, where {largest} are the most there can be")
        return found


def _succeeded(answers: Answers) -> bool:
    return answers.has_succeeded()


def _value(answers: Answers) -> bytes | None:
    return answers.take(answers.size()) if answers.has_succeeded() else None


def _size(answers: Answers) -> int | None:
    return answers.size() if answers.has_succeeded() else None


def _values(answers: Answers, asked: Collection[bytes], most: int) -> dict[bytes, bytes]:
    """Read the answer of mget: a count follows also after a failure. What nobody asked for is ignored."""
    answers.has_succeeded()
    found = {}
    for _ in range(answers.size(most, "values")):
        key_size, value_size = answers.size(), answers.size()
        key, value = answers.take(key_size), answers.take(value_size)
        if key in asked:
            found[key] = value
    return found


def _elements(answers: Answers) -> tuple[bool, list[bytes]]:
    """Read the answer of misc: a count follows also after a failure."""
    succeeded = answers.has_succeeded()
    return succeeded, [answers.take(answers.size()) for _ in range(answers.size(MOST_ARGUMENTS, "elements"))]


def _lines(answers: Answers) -> dict[str, str]:
    text = answers.take(answers.size(MOST_RECEIVED)) if answers.has_succeeded() else b""
    pairs = (line.partition("\t") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in pairs}
