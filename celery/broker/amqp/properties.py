"""A message's properties and headers on RabbitMQ: what we write, and what we make of those of a stranger.

Nothing in a message is trusted. Whatever is odd is left out, and decoding the body tells the rest.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final
from uuid import uuid4

from amqp.serialization import dumps

from celery import message as wire
from celery.broker.amqp.frames import Arrival
from celery.message import Delivery, Message

#: The longest short string of AMQP, in bytes.
SHORT: Final = 255
PERSISTENT: Final = b"\x02"
#: The type of a message that names none: nobody decodes it, and the failure says so.
UNTYPED: Final = "application/data"
#: The header in which a quorum queue counts how often a message has come back.
RETURNS: Final = "x-delivery-count"
#: Headers that say nothing of the call: our counters, RabbitMQ's, and what would pass for the type of the message.
DROPPED: Final = frozenset({wire.ATTEMPT, wire.CRASHES, wire.STARTS, wire.RELAYED}) | {
    RETURNS,
    "x-acquired-count",
    "content-type",
    "content-encoding",
}

_FLAGS: Final = Struct(">H")
_TYPES, _HEADERS, _DELIVERY_MODE, _PRIORITY, _CORRELATION_ID = 0xC000, 0x2000, 0x1000, 0x0800, 0x0400


# -- writing


def properties_of(message: Message, *, max_priority: int | None) -> bytes:
    """Return the property flags and values of `message` as they stand in its header frame."""
    headers = headers_of(message)
    task_id = _short(message.task_id)
    priority = min(max(message.priority or 0, 0), max_priority) if max_priority else None
    flags = _TYPES | _DELIVERY_MODE
    parts = [b"", _short(message.content_type) or b"\0", _short(message.content_encoding) or b"\0"]
    if task_id is None:
        headers["id"] = message.task_id
    if headers:
        flags |= _HEADERS
        parts.append(table(headers))
    parts.append(PERSISTENT)
    if priority is not None:
        flags |= _PRIORITY
        parts.append(bytes([priority]))
    if task_id is not None:
        flags |= _CORRELATION_ID
        parts.append(task_id)
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)


def headers_of(message: Message) -> dict[str, Any]:
    """Return the headers that travel: those of the message, and its counters where they are not at their beginning."""
    headers = dict(message.headers)
    if message.attempt != 1 or wire.RELAYED in headers:  # who looks a copy up would have to read its body for it
        headers[wire.ATTEMPT] = message.attempt
    if message.crashes:
        headers[wire.CRASHES] = message.crashes
    return headers


def table(headers: Mapping[str, Any]) -> bytes:
    """Return `headers` as AMQP writes them, without those that it cannot carry."""
    try:
        return bytes(dumps("F", [headers]))
    except Exception:  # noqa: BLE001 - each kind of value fails in its own way
        return bytes(dumps("F", [{name: value for name, value in headers.items() if _is_carried(name, value)}]))


def _is_carried(name: str, value: Any) -> bool:
    try:
        dumps("F", [{name: value}])
    except Exception:  # noqa: BLE001 - see table()
        return False
    return True


def _short(text: str) -> bytes | None:
    """Return `text` as a short string, None if it is too long for one."""
    data = text.encode("utf-8", "surrogatepass")
    return bytes([len(data)]) + data if len(data) <= SHORT else None


# -- reading


def delivery_of(arrival: Arrival, queue: str, tag: tuple[int, int]) -> Delivery:
    """Read a message."""
    properties = arrival.properties
    headers = properties.get("application_headers") or {}
    starts = wire.sane(headers.get(wire.STARTS))
    return Delivery(
        task_id=task_id_of(properties, headers),
        attempt=wire.sane(headers.get(wire.ATTEMPT), wire.LARGEST_ATTEMPT),
        queue=queue,
        rank=-properties.get("priority", 0),
        headers=packed(properties, headers),
        body=arrival.body,
        tag=tag,
        suspect=arrival.redelivered or starts > 0 or headers.get(wire.RELAYED) == wire.SUSPECT,
        relayed=wire.RELAYED in headers,
        starts=starts,
        crashes=wire.sane(headers.get(wire.CRASHES)),
    )


def returns_of(arrival: Arrival) -> int:
    """Return how often a quorum queue says that this message has come back."""
    headers = arrival.properties.get("application_headers") or {}
    return wire.sane(headers.get(RETURNS))


def anew(delivery: Delivery) -> Message:
    """Return a delivery as a message to be published once more, still a suspect."""
    content_type, encoding, headers = wire.unpack_headers(delivery.headers)
    if delivery.starts:
        headers[wire.STARTS] = delivery.starts
    return Message(
        task_id=delivery.task_id,
        task="",
        body=delivery.body,
        queue=delivery.queue,
        attempt=delivery.attempt,
        priority=-delivery.rank or None,
        headers={**headers, wire.RELAYED: wire.SUSPECT},
        content_type=content_type,
        content_encoding=encoding,
        crashes=delivery.crashes,
    )


def task_id_of(properties: dict[str, Any], headers: dict[str, Any]) -> str:
    """Return the id of the task, or a fresh one for a message that has none."""
    for candidate in (properties.get("correlation_id"), headers.get("id")):
        if wire.is_name(candidate):
            return str(candidate)
    return str(uuid4())


def packed(properties: dict[str, Any], headers: dict[str, Any]) -> str:
    """Return headers and content type as `message.pack_headers` writes them: empty in the usual case."""
    extras = {name: value for name, value in headers.items() if name not in DROPPED}
    kind = properties.get("content_type") or UNTYPED
    encoding = properties.get("content_encoding") or "utf-8"
    if kind != wire.JSON or encoding.lower() != "utf-8":
        extras |= {"content-type": kind, "content-encoding": encoding}
    if not extras:
        return ""
    try:
        return wire.to_json(extras)
    except Exception:  # noqa: BLE001 - any value may be at fault, in its own way
        return wire.to_json({name: value for name, value in extras.items() if _is_json(name, value)})


def _is_json(name: Any, value: Any) -> bool:
    try:
        wire.to_json({name: value})
    except Exception:  # noqa: BLE001 - see packed()
        return False
    return True
