"""The pure parts of the broker on RabbitMQ: frames, settlements, and what a message's properties become."""

import json
import socket
import ssl
import time
import uuid
import weakref
from collections.abc import Iterator
from struct import unpack
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, AMQPError, ConnectionForced, PreconditionFailed, UnexpectedFrame
from amqp.serialization import decode_properties_basic
from hypothesis import given
from hypothesis import strategies as some

from celery import message as wire
from celery.broker.amqp import AmqpConsumer, transport
from celery.broker.amqp import line as amqp_line
from celery.broker.amqp.frames import ACK, METHOD, NACK, Arrival, Inbox, Ledger, content, opening, settlement
from celery.broker.amqp.line import NackedError
from celery.broker.amqp.properties import DROPPED, delivery_of, headers_of, packed, properties_of, task_id_of
from celery.broker.amqp.publisher import Publisher, explained
from celery.broker.amqp.transport import TcpTransport, server_of
from celery.exceptions import BrokerUnreachable, MessageTooLarge
from celery.message import Message

FRAME_MAX = 131072


def message(**fields: Any) -> Message:
    return Message(**{"task_id": "an-id", "task": "shop.add", "body": b"{}", "queue": "celery"} | fields)


# -- the ledger of delivery tags


class Server:
    """What RabbitMQ does with acknowledgements: one that settles what is not open ends the connection."""

    def __init__(self, last: int) -> None:
        self.open = set(range(1, last + 1))

    def hear(self, settled: list[tuple[int, bool]]) -> None:
        for tag, multiple in settled:
            assert tag in self.open
            self.open -= {known for known in self.open if known <= tag} if multiple else {tag}


@given(last=some.integers(1, 60), groups=some.lists(some.sets(some.integers(-5, 70)), max_size=20))
def test_exactly_what_was_settled_is_settled_on_the_server(last: int, groups: list[set[int]]) -> None:
    ledger, server = Ledger(), Server(last)
    for tag in range(1, last + 1):
        ledger.add(tag)

    for group in groups:
        server.hear(ledger.settle(group))
        assert len(server.open) >= last - len(set().union(*groups))
    server.hear(ledger.rest())

    assert not ledger.holds_back
    settled: set[int] = set().union(*groups)
    assert server.open == set(range(1, last + 1)) - settled
    assert all((tag in ledger) == (tag in server.open) for tag in range(1, last + 1))


@given(some.lists(some.integers(1, 8), min_size=1, max_size=30))
def test_what_was_delivered_in_between_stays_open(sizes: list[int]) -> None:
    ledger, server = Ledger(), Server(sum(sizes))
    given_out = 0
    for size in sizes:
        for _ in range(size):
            given_out += 1
            ledger.add(given_out)
        server.hear(ledger.settle([given_out]))
    server.hear(ledger.rest())

    assert len(server.open) == sum(sizes) - len(sizes)


def test_a_prefix_is_settled_in_one_frame_and_stragglers_wait_for_it() -> None:
    ledger = Ledger()
    for tag in range(1, 11):
        ledger.add(tag)

    assert ledger.settle([4]) == []
    assert ledger.settle([1, 2, 3]) == [(4, True)]
    assert ledger.settle([9, 5, 6, 8]) == [(6, True)]
    assert ledger.rest() == [(8, False), (9, False)]
    assert ledger.settle([7]) == [(7, False)]
    assert ledger.settle([7, 11]) == []
    assert ledger.settle([10]) == [(10, False)]
    assert not ledger.holds_back


def test_what_is_held_back_counts_as_settled_here() -> None:
    ledger = Ledger()
    ledger.add(1)
    ledger.add(2)

    assert ledger.settle([2]) == []
    assert ledger.holds_back
    assert 2 not in ledger
    assert ledger.settle([2]) == []
    assert ledger.rest() == [(2, False)]


# -- frames


def frames_of(data: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while data:
        kind, channel, size = unpack(">BHI", data[:7])
        assert data[7 + size] == 0xCE
        found.append((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return found


def test_acknowledgements_are_written_as_the_protocol_has_them() -> None:
    assert settlement(1, ACK, [(7, False), (300, True)]) == (
        bytes.fromhex("01 0001 0000000d 003c 0050 0000000000000007 00 ce")
        + bytes.fromhex("01 0001 0000000d 003c 0050 000000000000012c 01 ce")
    )
    assert settlement(2, NACK, [(7, True)]) == bytes.fromhex("01 0002 0000000d 003c 0078 0000000000000007 03 ce")


def test_a_publish_is_mandatory() -> None:
    ((kind, channel, payload),) = frames_of(opening(3, "ex", "queue"))

    assert (kind, channel) == (METHOD, 3)
    assert payload == b"\x00\x3c\x00\x28\x00\x00" + b"\x02ex" + b"\x05queue" + b"\x01"


class Connection:
    bytes_recv = 0


def inbox() -> Inbox:
    return Inbox().bind(Connection(), pytest.fail)


def deliver(tag: int, *, redelivered: bool = False) -> tuple[int, int, bytes]:
    """Return the frame of a basic.deliver with a routing key that is no text."""
    names = b"\x04me.0", b"\x06celery", b"\x02\xff\xfe"
    return (
        METHOD,
        1,
        b"\x00\x3c\x00\x3c" + names[0] + tag.to_bytes(8, "big") + bytes([redelivered]) + names[1] + names[2],
    )


json_values = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
names = some.text(min_size=1, max_size=40).filter(lambda name: "\0" not in name)


@given(
    task_id=names,
    body=some.binary(max_size=300),
    attempt=some.integers(2, 2**31 - 1),
    crashes=some.integers(0, 2**15 - 2),
    headers=some.dictionaries(names, json_values, max_size=4),
    frame_max=some.integers(20, 400),
)
def test_what_the_publisher_writes_the_consumer_reads(  # noqa: PLR0913 - one message
    *, task_id: str, body: bytes, attempt: int, crashes: int, headers: dict[str, Any], frame_max: int
) -> None:
    headers = {name: value for name, value in headers.items() if name not in DROPPED}
    sent = message(task_id=task_id, body=body, attempt=attempt, crashes=crashes, headers=headers)
    read = inbox()

    read(deliver(5, redelivered=True))
    for frame in frames_of(content(1, properties_of(sent, max_priority=None), body, frame_max)):
        read(frame)

    (arrival,) = read.arrived
    found = delivery_of(arrival, "celery", (1, arrival.tag))
    assert (found.task_id, found.attempt, found.crashes, found.body) == (task_id, attempt, crashes, body)
    assert (found.tag, found.suspect, found.relayed) == ((1, 5), True, False)
    assert wire.unpack_headers(found.headers) == (wire.JSON, "utf-8", headers)


@given(some.binary(max_size=60))
def test_no_properties_harm_the_inbox(raw: bytes) -> None:
    read = inbox()
    header = b"\x00\x3c\x00\x00" + (2).to_bytes(8, "big") + raw

    read(deliver(1))
    read((2, 1, header))
    assert read((3, 1, b"{}"))

    (arrival,) = read.arrived
    found = delivery_of(arrival, "celery", (1, 1))
    assert found.body == b"{}"
    assert 0 < len(found.task_id) <= 255
    wire.unpack_headers(found.headers)


def test_deliveries_and_heartbeats_may_come_mixed() -> None:
    read = inbox()

    assert not read((8, 0, b""))
    assert not read(deliver(1))
    assert not read((2, 1, b"\x00\x3c\x00\x00" + (4).to_bytes(8, "big") + b"\x00\x00"))
    assert not read((3, 1, b"ab"))
    assert not read((8, 0, b""))
    assert read((3, 1, b"cd"))

    assert read.arrived.popleft() == Arrival("me.0", 1, False, {}, b"abcd")


@pytest.mark.parametrize(
    "frame",
    [
        (METHOD, 1, b"\0\x3c"),
        (METHOD, 1, b"\0\x3c\0\x3c"),
        (METHOD, 1, b"\0\x3c\0\x3c\x04me.0\0"),
        (METHOD, 1, b"\0\x3c\0\x3c\x02\xff\xfe" + bytes(9)),
        (2, 1, b"\x00\x3c\x00\x00"),
    ],
    ids=["half a name of a method", "no consumer", "no tag", "a consumer that is no text", "half a header"],
)
def test_a_frame_that_is_none_ends_the_connection_and_not_the_dispatcher(frame: tuple[int, int, bytes]) -> None:
    with pytest.raises(AMQPError, match="none of AMQP's"):
        inbox()(frame)


# -- the transport


@pytest.fixture
def ends() -> Iterator[tuple[TcpTransport, socket.socket]]:
    """A transport, and the server's end of its socket."""
    ours, theirs = socket.socketpair()
    transport = TcpTransport("127.0.0.1:1")
    transport.sock, transport.connected = ours, True
    yield transport, theirs
    ours.close()
    theirs.close()


def test_half_a_frame_waits_for_its_other_half(ends: tuple[TcpTransport, socket.socket]) -> None:
    transport, server = ends
    frame = b"\x01\x00\x02\x00\x00\x00\x03abc\xce"

    server.sendall(frame + frame[:5])
    assert transport.receive()
    assert transport.next_frame() == (1, 2, b"abc")
    assert transport.next_frame() is None
    assert not transport.receive()

    server.sendall(frame[5:])
    assert transport.receive()
    assert transport.next_frame() == (1, 2, b"abc")


def test_waiting_ends_at_the_deadline(ends: tuple[TcpTransport, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        ends[0].wait(time.monotonic() + 0.01)


def test_the_end_of_the_stream_raises(ends: tuple[TcpTransport, socket.socket]) -> None:
    transport, server = ends
    server.close()

    with pytest.raises(ConnectionResetError):
        transport.receive()
    assert not transport.connected


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request", b"\x01\x00\x02\x00\x00\x00\x03abcX", b"\xff" * 9])
def test_what_is_no_frame_raises(ends: tuple[TcpTransport, socket.socket], noise: bytes) -> None:
    transport, server = ends
    server.sendall(noise)
    transport.receive()

    with pytest.raises(UnexpectedFrame):
        transport.next_frame()


# -- properties and headers


def test_there_is_never_a_header_named_task() -> None:
    assert headers_of(message(attempt=2, crashes=1)) == {"attempt": 2, "crashes": 1}
    assert headers_of(message()) == {}


@pytest.mark.parametrize(("priority", "travels"), [(None, 0), (3, 3), (200, 10), (-4, 0)])
def test_priorities_are_cut_to_what_the_queue_has(priority: int | None, travels: int) -> None:
    raw = properties_of(message(priority=priority), max_priority=10)

    assert decode_properties_basic(raw, 0)[0]["priority"] == travels


def test_without_priorities_none_travels() -> None:
    assert "priority" not in decode_properties_basic(properties_of(message(priority=3), max_priority=None), 0)[0]


@pytest.mark.parametrize(
    ("value", "count"), [(3, 3), (0, 0), (-1, 0), (11, 0), (True, 0), ("3", 0), (3.0, 0), (None, 0), ([3], 0)]
)
def test_counters_of_strangers_are_believed_within_reason(value: object, count: int) -> None:
    assert wire.sane(value, 10) == count


@pytest.mark.parametrize(
    ("correlation_id", "header", "expected"),
    [
        ("a", "b", "a"),
        (None, "b", "b"),
        ("", "b", "b"),
        ("x" * 256, "b", "b"),
        ("nul\0", "b", "b"),
        ("\ud800", "b", "b"),
    ],
)
def test_the_id_comes_from_the_property_or_a_header(correlation_id: Any, header: Any, expected: str) -> None:
    assert task_id_of({"correlation_id": correlation_id}, {"id": header}) == expected


@pytest.mark.parametrize("header", [None, 5, b"id", "", "x" * 256, "lone \udfff"])
def test_a_message_without_an_id_gets_one(header: object) -> None:
    assert uuid.UUID(task_id_of({}, {"id": header})).version == 4


def test_the_usual_message_needs_no_text_for_its_headers() -> None:
    assert packed({"content_type": wire.JSON, "content_encoding": "UTF-8"}, {wire.ATTEMPT: 2}) == ""
    assert packed({"content_type": wire.JSON}, {}) == ""


def test_a_message_without_a_type_is_not_taken_for_json() -> None:
    assert wire.unpack_headers(packed({}, {})) == ("application/data", "utf-8", {})


def test_a_header_cannot_pass_for_the_type_of_the_message() -> None:
    headers = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}

    assert packed({"content_type": wire.JSON}, headers) == ""


def test_headers_that_json_cannot_carry_are_dropped() -> None:
    headers: dict[Any, Any] = {"good": [1], "odd": {1}, b"key": 1}

    assert json.loads(packed({"content_type": wire.JSON}, headers)) == {"good": [1]}


# -- messages for people


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("amqp://me:secret@shop:1234/vhost", "shop:1234"),
        ("amqp://", "localhost:5672"),
        ("amqps://me:secret@shop//", "shop:5671"),
        ("amqp://me:secret@one//;amqp://me:secret@two:99//;three", "one:5672, two:99, three:5672"),
    ],
)
def test_servers_are_named_without_passwords(url: str, server: str) -> None:
    assert server_of(url) == server


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConnectionRefusedError("refused"), BrokerUnreachable, "cannot be reached: refused. Is it running?"),
        (TimeoutError(), BrokerUnreachable, "CELERY_PUBLISH_TIMEOUT"),
        (BlockingIOError(), BrokerUnreachable, "What was sent may arrive later"),
        (ssl.SSLError("bad certificate"), BrokerUnreachable, "bad certificate"),
        (AccessRefused("ACCESS_REFUSED"), BrokerUnreachable, "Check user, password, virtual host"),
        (PreconditionFailed("odd", (60, 20)), BrokerUnreachable, "odd"),
        (NackedError(), BrokerUnreachable, "the queue is full"),
        (PreconditionFailed("message size 9 is larger", (60, 40)), MessageTooLarge, "message size 9 is larger"),
    ],
)
def test_errors_say_where_and_what_to_do(error: Exception, kind: type[Exception], text: str) -> None:
    explanation = explained(error, "amqp://me:secret@shop//")

    assert type(explanation) is kind
    assert str(explanation).startswith("RabbitMQ at shop:5672 ")
    assert text in str(explanation)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            AccessRefused("ACCESS_REFUSED - see the broker logfile.", (0, 0)),
            "refused: (403) ACCESS_REFUSED - see the broker logfile. Check user",
        ),
        (
            ConnectionForced("CONNECTION_FORCED - 'shutdown'", (0, 0)),
            "closed the connection: (320) CONNECTION_FORCED - 'shutdown'. Does",
        ),
        (ConnectionRefusedError("refused,\n\tas ever."), "cannot be reached: refused, as ever. Is it running?"),
    ],
)
def test_what_the_server_says_is_part_of_one_sentence(error: Exception, text: str) -> None:
    assert str(explained(error, "amqp://me:secret@shop//")).startswith(f"RabbitMQ at shop:5672 {text}")


def test_a_lost_connection_is_named_in_the_log_without_the_password() -> None:
    consumer = AmqpConsumer("amqp://me:secret@shop//", "an-owner", ["celery"])

    lost = consumer.told(ConnectionForced("CONNECTION_FORCED - broker forced connection closure", (0, 0)))

    assert lost == "RabbitMQ at shop:5672: (320) CONNECTION_FORCED - broker forced connection closure"
    refused = explained(ConnectionRefusedError("refused"), "amqp://me:secret@shop//")
    assert consumer.told(refused) == str(refused)


def test_a_server_short_of_memory_is_told_from_a_silent_one() -> None:
    assert "short of memory or disk" in str(explained(TimeoutError(), "amqp://shop//", is_blocked=True))


def _unconnected() -> transport.Connection:
    return transport.Connection("shop:5672", deadline=0.0)


def test_what_the_server_says_of_its_memory_is_kept_until_it_takes_it_back() -> None:
    # given
    connection = _unconnected()

    # when
    connection._on_blocked()

    # then
    assert connection.is_blocked

    # when
    connection._on_unblocked()

    # then
    assert not connection.is_blocked


def test_who_sends_to_a_server_short_of_memory_is_told_so_and_the_connection_is_dropped() -> None:
    # given
    connection = _unconnected()
    connection._on_blocked()
    line = SimpleNamespace(connection=connection, is_alive=lambda: True)
    sender = Publisher("amqp://shop//")
    sender._line, sender._farewell = line, weakref.finalize(connection, int)  # type: ignore[assignment]

    def hang(_: str) -> int:
        raise TimeoutError

    line.depth = hang

    # when
    with pytest.raises(BrokerUnreachable, match="short of memory or disk"):
        sender.depth("celery")

    # then
    assert sender._line is None


def test_a_connection_whose_channel_cannot_be_opened_is_not_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    news: list[str] = []

    def refuse() -> None:
        raise AccessRefused("no")

    connection = SimpleNamespace(deadline=0.0, channel=refuse, drop=lambda: news.append("dropped"))
    monkeypatch.setattr(amqp_line, "connect", lambda *_, **__: connection)

    # when
    with pytest.raises(BrokerUnreachable, match="Check user, password"):
        Publisher("amqp://shop//").depth("celery")

    # then
    assert news == ["dropped"]
