"""Datagrams between processes, on real sockets."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery.worker import channel

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "size",
    [0, 1, channel.LARGEST_INLINE - 1, channel.LARGEST_INLINE, channel.LARGEST_INLINE + 1, 5 * 1024 * 1024],
)
def test_bytes_of_any_size_arrive(ends: Pair, size: int) -> None:
    # given
    ours, theirs = ends
    parts = [b"J", bytes(size // 2), b"x" * (size - size // 2)]

    # when
    assert channel.send(ours, parts)

    # then
    assert channel.receive(theirs, wait=False) == (b"".join(parts), [])
    assert channel.receive(theirs, wait=False) is None


def test_datagrams_keep_their_order_whatever_their_size(ends: Pair) -> None:
    # given
    ours, theirs = ends
    sent = [bytes([number]) * size for number, size in enumerate((1, 100_000, 10, 70_000, 2))]

    # when
    for data in sent:
        channel.send(ours, [data])

    # then
    received = [channel.receive(theirs, wait=False) for _ in sent]
    assert [one[0] for one in received if one] == sent


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_socket_means_enough(ends: Pair) -> None:
    # given
    ours, theirs = ends
    count = 0

    # when
    while channel.send(ours, [bytes(1000)]):
        count += 1

    # then
    assert 10 < count < 10_000
    assert not channel.send(ours, [bytes(1000)])
    assert channel.receive(theirs, wait=False)
    assert channel.send(ours, [bytes(1000)])


def test_a_full_socket_takes_no_memory_file_either_and_leaks_no_descriptor(ends: Pair) -> None:
    # given
    ours, _ = ends
    while channel.send(ours, [bytes(1000)]):
        pass
    before = _open_descriptors()

    # when
    assert not channel.send(ours, [bytes(100_000)])

    # then
    assert _open_descriptors() == before


def test_large_bodies_leak_no_descriptor(ends: Pair) -> None:
    # given
    ours, theirs = ends
    before = _open_descriptors()

    # when
    for _ in range(20):
        channel.send(ours, [bytes(100_000)])
        channel.receive(theirs, wait=True)

    # then
    assert _open_descriptors() == before


def test_the_other_side_may_be_gone(ends: Pair) -> None:
    # given
    ours, theirs = ends

    # when
    theirs.close()

    # then
    with pytest.raises(OSError, match="Broken pipe") as caught:
        channel.send(ours, [b"anybody?"])
    assert caught.value.errno == errno.EPIPE
    with pytest.raises(EOFError):
        channel.receive(ours, wait=True)


def test_the_other_side_may_be_gone_with_our_words_unread(ends: Pair) -> None:
    # given
    ours, theirs = ends
    channel.send(ours, [b"unread"])

    # when
    theirs.close()

    # then
    with pytest.raises(EOFError):
        channel.receive(ours, wait=False)


def test_what_was_sent_before_the_end_arrives(ends: Pair) -> None:
    # given
    ours, theirs = ends
    channel.send(theirs, [b"last words"])

    # when
    theirs.close()

    # then
    assert channel.receive(ours, wait=False) == (b"last words", [])
    with pytest.raises(EOFError):
        channel.receive(ours, wait=False)


def test_a_datagram_that_was_cut_is_our_own_fault(ends: Pair) -> None:
    # given
    ours, theirs = ends
    ours.send(bytes(channel.LARGEST_DATAGRAM + 1))

    # when
    with pytest.raises(OSError, match="was cut"):
        channel.receive(theirs, wait=False)


@pytest.mark.parametrize("words", [(), ("child", 3, b"\0", None, True, 1.5, ("nested", ())), ("x" * 200_000,)])
def test_words_arrive_as_they_were_said(ends: Pair, words: tuple[object, ...]) -> None:
    # given
    ours, theirs = ends

    # when
    channel.tell(ours, *words)

    # then
    assert channel.listen(theirs) == (words, [])
    assert channel.listen(theirs) is None


def test_descriptors_travel_with_words(ends: Pair) -> None:
    # given
    ours, theirs = ends
    read, write = os.pipe()

    # when
    channel.tell(ours, "take these", descriptors=[read, write])
    os.close(read)
    os.close(write)

    # then
    heard = channel.listen(theirs)
    assert heard is not None
    (word,), (read, write) = heard
    assert word == "take these"
    os.write(write, b"through")
    assert os.read(read, 10) == b"through"
    os.close(read)
    os.close(write)
