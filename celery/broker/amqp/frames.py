"""The frames of AMQP 0-9-1 that we read and write ourselves: deliveries, settlements, publishes.

Reading: amqp would let one message with a broken header end the connection, again and again. Writing: many small frames
go out in one call. No input and output here.
"""

from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class
from typing import Any, Final, NamedTuple

from amqp import spec
from amqp.exceptions import FrameSyntaxError
from amqp.serialization import decode_properties_basic, dumps

#: Type, channel and payload.
Frame = tuple[int, int, bytes]

METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
ACK, NACK, REQUEUE = 80, 120, 2

ENVELOPE: Final = Struct(">BHI")
_END: Final = bytes([END])
_SIGNATURE: Final = Struct(">HH")
_CONTENT: Final = Struct(">HHQ")
_DELIVER: Final = Struct(">QB")
_SETTLEMENT: Final = Struct(">BHIHHQBB")


class Arrival(NamedTuple):
    """A delivered message as it stood in the frames."""

    consumer: str
    tag: int
    redelivered: bool
    properties: dict[str, Any]
    body: bytes


class Inbox:
    """The reader of frames on a connection that consumes: deliveries pile up in `arrived`, the rest is amqp's business.

    Nothing in a message is trusted. Properties that nobody can read are left out; decoding the message then says so.
    What the server itself has written and nobody can read ends the connection: FrameSyntaxError.
    """

    def __init__(self) -> None:
        self.arrived: deque[Arrival] = deque()
        self.qos_answers = 0
        self._opening: tuple[str, int, bool] = ("", 0, False)
        self._properties: dict[str, Any] = {}
        self._chunks: list[bytes] = []
        self._missing = 0

    def bind(self, connection: Any, dispatch: Callable[..., Any]) -> "Inbox":
        """Take the place of amqp's own reader of frames."""
        self._connection = connection
        self._dispatch = dispatch
        return self

    def __call__(self, frame: Frame) -> bool:
        """Handle one frame; True if it completed something."""
        try:
            return self._read(*frame)
        except (StructError, IndexError, UnicodeDecodeError) as error:
            raise FrameSyntaxError(f"the server sent a frame that is none of AMQP's: {error}") from error

    def _read(self, kind: int, channel: int, payload: bytes) -> bool:
        self._connection.bytes_recv += 1
        if kind == METHOD:
            return self._read_method(channel, payload)
        if kind == HEADER:
            return self._read_header(payload)
        return kind == BODY and self._read_body(payload)

    def _read_method(self, channel: int, payload: bytes) -> bool:
        signature = _SIGNATURE.unpack_from(payload)
        if signature == spec.Basic.Deliver:
            self._opening = read_deliver(payload)
            return False
        self.qos_answers += signature == spec.Basic.QosOk
        self._dispatch(channel, signature, payload, None)
        return True

    def _read_header(self, payload: bytes) -> bool:
        self._missing = _CONTENT.unpack_from(payload)[2]
        try:
            self._properties = decode_properties_basic(payload, _CONTENT.size)[0]
        except Exception:  # noqa: BLE001 - whatever a hostile table provokes in amqp
            self._properties = {}
        return self._deliver_if_complete()

    def _read_body(self, payload: bytes) -> bool:
        self._chunks.append(payload)
        self._missing -= len(payload)
        return self._deliver_if_complete()

    def _deliver_if_complete(self) -> bool:
        if self._missing > 0:
            return False
        self.arrived.append(Arrival(*self._opening, self._properties, b"".join(self._chunks)))
        self._chunks = []
        return True


def read_deliver(payload: bytes) -> tuple[str, int, bool]:
    """Read consumer tag, delivery tag and the mark of a second delivery from the arguments of basic.deliver.

    The names of exchange and routing key come from a stranger and are not needed.
    """
    end = 5 + payload[4]
    tag, redelivered = _DELIVER.unpack_from(payload, end)
    return payload[5:end].decode(), tag, bool(redelivered)


def settlement(channel: int, verb: int, settled: Iterable[tuple[int, bool]]) -> bytes:
    """Return the frames of basic.ack or basic.nack (which requeues) for pairs of a delivery tag and "all up to it"."""
    extra = REQUEUE if verb == NACK else 0
    return b"".join(
        _SETTLEMENT.pack(METHOD, channel, 13, 60, verb, tag, multiple | extra, END) for tag, multiple in settled
    )


def opening(channel: int, exchange: str, queue: str, *, mandatory: bool = True) -> bytes:
    """Return the frame of basic.publish; what is `mandatory` and reaches no queue is returned."""
    payload: bytes = dumps("BBBssbb", (60, 40, 0, exchange, queue, mandatory, False))
    return ENVELOPE.pack(METHOD, channel, len(payload)) + payload + _END


def content(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the frames of a message's properties (flags and values) and body."""
    header = _CONTENT.pack(60, 0, len(body)) + properties
    frames = [ENVELOPE.pack(HEADER, channel, len(header)), header, _END]
    size = frame_max - 8
    for at in range(0, len(body), size):
        chunk = body[at : at + size]
        frames += (ENVELOPE.pack(BODY, channel, len(chunk)), chunk, _END)
    return b"".join(frames)


class Ledger:
    """The delivery tags of one channel that are not settled yet, and how to settle some of them in few frames.

    All that lies below the first open tag goes in one frame. What finishes early is held back for a moment, in the hope
    of that: children finish out of order, and a frame for each costs RabbitMQ more than the rest of a delivery.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._order: deque[int] = deque()
        self._held: set[int] = set()

    def __contains__(self, tag: int) -> bool:
        return tag in self._open

    @property
    def holds_back(self) -> bool:
        """Whether something is settled here that the server does not know of."""
        return bool(self._held)

    def add(self, tag: int) -> None:
        """Note a delivery; tags only grow."""
        self._open.add(tag)
        self._order.append(tag)

    def settle(self, tags: Iterable[int]) -> list[tuple[int, bool]]:
        """Strike out `tags`, and return (tag, multiple) pairs that settle what lies below the first open tag."""
        settled = self._open.intersection(tags)
        self._open -= settled
        self._held |= settled
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        below = {tag for tag in self._held if not self._order or tag < self._order[0]}
        self._held -= below
        return [(max(below), len(below) > 1)] if below else []

    def rest(self) -> list[tuple[int, bool]]:
        """Return the pairs that settle what was held back, and nothing else."""
        held, self._held = self._held, set()
        return [(tag, False) for tag in sorted(held)]
