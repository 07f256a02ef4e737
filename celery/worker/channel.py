"""Datagrams between the processes of one worker, on SOCK_SEQPACKET pairs.

Both ends stay in blocking mode and calls that must not wait say MSG_DONTWAIT: a descriptor and its duplicate share
their mode, and the dispatcher keeps a duplicate of each child's end. A body too large for a datagram travels as a
memory file. What two processes say to each other beside jobs is `marshal`: plain values, nothing that can run.
"""

import array
import marshal
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final

INLINE: Final = b"\0"
IN_MEMORY_FILE: Final = b"\1"
LARGEST_INLINE: Final = 64 * 1024
LARGEST_DATAGRAM: Final = LARGEST_INLINE + 1024
MOST_DESCRIPTORS: Final = 4
#: As a number: the members of an enum are put together in Python, a microsecond a datagram.
CUT: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
ANCILLARY: Final = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, parts: Sequence[bytes], descriptors: Sequence[int] = (), *, wait: bool = False) -> bool:
    """Send one datagram. False: the other side has enough for now. Raises OSError when it is gone."""
    size = sum(map(len, parts))
    if size > LARGEST_INLINE:
        return _send_in_memory_file(end, parts, wait=wait)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    return _sent(end, [INLINE, *parts], ancillary, wait=wait)


def _send_in_memory_file(end: socket.socket, parts: Sequence[bytes], *, wait: bool) -> bool:
    descriptor = os.memfd_create("celery")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        return _sent(end, [IN_MEMORY_FILE], [rights], wait=wait)
    finally:
        os.close(descriptor)


def _sent(end: socket.socket, parts: Sequence[bytes], ancillary: Any, *, wait: bool) -> bool:
    try:
        end.sendmsg(parts, ancillary, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def receive(end: socket.socket, *, wait: bool) -> tuple[bytes, list[int]] | None:
    """Return a datagram and the descriptors that came with it; None when there is none and we do not wait.

    Raises EOFError when the other side is gone, OSError when a datagram was cut (which would be our own fault).
    """
    try:
        data, ancillary, flags, _ = end.recvmsg(LARGEST_DATAGRAM, ANCILLARY, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except ConnectionResetError as error:
        raise EOFError from error
    if not data:
        raise EOFError
    if flags & CUT:
        text = "a datagram between two processes of the worker was cut"
        raise OSError(text)
    descriptors = _descriptors(ancillary) if ancillary else []
    if data[:1] == IN_MEMORY_FILE:
        return _contents(descriptors.pop()), descriptors
    return data[1:], descriptors


def _descriptors(ancillary: Any) -> list[int]:
    found = array.array("i")
    for _level, _kind, data in ancillary:
        found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _contents(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def tell(end: socket.socket, *words: Any, descriptors: Sequence[int] = (), wait: bool = True) -> bool:
    """Send plain values as one datagram."""
    return send(end, [marshal.dumps(words)], descriptors, wait=wait)


def words(end: socket.socket) -> Iterator[tuple[str, list[Any], list[socket.socket]]]:
    """Yield what `tell` has sent by now: a word, what goes with it, and the sockets given away. Raises EOFError."""
    while heard := listen(end):
        (word, *rest), descriptors = heard
        yield word, rest, [socket.socket(fileno=descriptor) for descriptor in descriptors]


def listen(end: socket.socket, *, wait: bool = False) -> tuple[tuple[Any, ...], list[int]] | None:
    """Return what `tell` sent, and its descriptors; None when there is nothing. Raises EOFError."""
    received = receive(end, wait=wait)
    return (marshal.loads(received[0]), received[1]) if received else None  # noqa: S302 - from our own process
