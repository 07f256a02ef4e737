"""A message as it lies in a list of Redis: the JSON object that kombu's virtual transports agree on.

Nothing in a message is trusted. Whatever is odd is left out, and decoding the body tells the rest.
"""

from base64 import b64decode
from typing import Any, Final

from kombu.utils.json import dumps, loads

from celery.broker.amqp.frames import Arrival
from celery.broker.amqp.properties import delivery_of, headers_of
from celery.message import Delivery, Message

#: kombu's most urgent priority on Redis is 0, and 9 its least; ours is the other way round, as on every broker.
LEAST: Final = 9
REDELIVERED: Final = "redelivered"


def step_of(message: Message) -> int:
    """Return the priority that kombu shall give to `message`."""
    return LEAST - min(max(message.priority or 0, 0), LEAST)


def envelope_of(message: Message, channel: Any) -> str:
    """Return `message` as the text that goes into the list."""
    envelope = channel.prepare_message(
        message.body,
        priority=step_of(message),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers_of(message),
        properties={"correlation_id": message.task_id, "delivery_mode": 2},
    )
    channel._inplace_augment_message(envelope, "", message.queue)  # noqa: SLF001 - adds what kombu's readers need
    try:
        return str(dumps(envelope))
    except Exception:  # noqa: BLE001 - each kind of value fails in its own way
        carried = {name: value for name, value in envelope["headers"].items() if _is_carried(name, value)}
        return str(dumps({**envelope, "headers": carried}))


def _is_carried(name: str, value: Any) -> bool:
    try:
        dumps({name: value})
    except Exception:  # noqa: BLE001 - see envelope_of()
        return False
    return True


def read(item: bytes, queue: str, tag: tuple[int, int]) -> Delivery:
    """Return what was found in the list of `queue`. What nobody can read has its bytes for a body, and no type."""
    try:
        return delivery_of(_arrival(loads(item), tag[1]), queue, tag)
    except Exception:  # noqa: BLE001 - whatever hostile JSON provokes
        return delivery_of(Arrival("", tag[1], redelivered=False, properties={}, body=item), queue, tag)


def _arrival(envelope: dict[str, Any], number: int) -> Arrival:
    properties = envelope["properties"]
    headers = dict(envelope.get("headers") or {})
    marks = (envelope, headers, properties.get("delivery_info") or {})
    is_redelivered = any(bool(place.get(REDELIVERED)) for place in marks)
    headers.pop(REDELIVERED, None)
    return Arrival(
        consumer="",
        tag=number,
        redelivered=is_redelivered,
        properties={
            "application_headers": headers,
            "correlation_id": properties.get("correlation_id"),
            "content_type": _text(envelope.get("content-type")),
            "content_encoding": _text(envelope.get("content-encoding")),
            "priority": _priority(properties.get("priority")),
        },
        body=_body(envelope.get("body", ""), properties.get("body_encoding")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _priority(value: Any) -> int:
    return LEAST - value if type(value) is int and 0 <= value <= LEAST else 0


def _body(body: Any, encoding: Any) -> bytes:
    if encoding == "base64":
        return b64decode(body)
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogateescape")
