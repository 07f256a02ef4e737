"""One call as it travels: `Call` (what is asked), `Message` (its envelope), `Delivery` (as a worker holds it).

The body is the classic one, which is also Celery's message protocol 1; protocol 2 is read too.
What this module knows of kombu is its serialization.
"""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from kombu.serialization import dumps as kombu_dumps
from kombu.serialization import loads as kombu_loads
from kombu.serialization import prepare_accept_content
from kombu.serialization import registry as serializers
from kombu.utils.json import JSONEncoder
from kombu.utils.json import object_hook as kombu_object_hook

from celery import conf
from celery.exceptions import MessageTooLarge, UndecodableMessage, UnsendableArgument, described

JSON: Final = "application/json"
LONGEST_NAME: Final = 255
#: Objects and lists in headers: fewer than there are levels of Python's stack.
MOST_CONTAINERS: Final = 200
#: The columns of starts and crashes are 16-bit numbers, that of attempts is a 32-bit one.
LARGEST_COUNT: Final = 2**15 - 1
LARGEST_ATTEMPT: Final = 2**31 - 1
ESCAPED: Final = "celery.mapping"
_MARKED: Final = frozenset({"__type__", "__value__"})
_LISTS: Final = (list, tuple)
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

#: Headers of our own. There is never one named ``task``: that would mark Celery's protocol 2.
ATTEMPT: Final = "attempt"
CRASHES: Final = "crashes"
STARTS: Final = "starts"
RELAYED: Final = "relayed"
#: The value of RELAYED that marks a suspect: whoever had it before was lost. Else it is 1.
SUSPECT: Final = 2
UNKNOWN_FOR: Final = "unknown_for"
#: Headers that repeat a column of the row.
COUNTERS: Final = frozenset({ATTEMPT, CRASHES, STARTS, RELAYED})

#: Headers that a task keeps through all its attempts: who traces it.
LASTING: Final = frozenset({"traceparent", "tracestate"})

_ACCEPTED_AS_JSON: Final = frozenset({"json", JSON})
#: Attempts, and so retries, fit a 32-bit column.
_MOST_RETRIES: Final = 2**31 - 2

_encode = JSONEncoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked: a task by name, and its arguments. `eta` and `expires` are aware."""

    task: str
    task_id: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 0
    eta: datetime | None = None
    expires: datetime | None = None
    taskset: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An encoded call and what a broker must know of it.

    `attempt` counts from 1. `visible_at` (aware, UTC) is the moment before which nobody may take it.
    A `priority` of None is the broker's lowest; larger is more urgent.
    """

    task_id: str
    task: str
    body: bytes
    queue: str
    attempt: int = 1
    priority: int | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = JSON
    content_encoding: str = "utf-8"
    visible_at: datetime | None = None
    crashes: int = 0
    reason: str | None = None


class Delivery(NamedTuple):
    """A message as a worker holds it. `body` is not decoded; `row_id` is 0 when it has no row in the database.

    `rank` is the negated priority; `headers` are text, as in a row; `tag` is what the broker knows it by.
    """

    task_id: str
    attempt: int
    queue: str
    rank: int
    headers: str
    body: bytes
    row_id: int = 0
    tag: Any = None
    suspect: bool = False
    relayed: bool = False
    starts: int = 0
    crashes: int = 0


def encode(call: Call, serializer: str) -> tuple[str, str, bytes]:
    """Return content type, content encoding and body of `call`.

    Raises UnsendableArgument naming the argument, MessageTooLarge.
    """
    if serializer not in serializers.name_to_type:
        text = f"there is no serializer {serializer!r}; there are: {', '.join(sorted(serializers.name_to_type))}"
        raise UnsendableArgument(text)
    _check_shape(call)
    try:
        args = [_carried(value) for value in call.args]
        kwargs = {name: _carried(value) for name, value in call.kwargs.items()}
        content_type, encoding, body = _serialize(_body_of(call, args, kwargs), serializer)
    except Exception as error:
        raise _unsendable(call, serializer, error) from error
    if len(body) > conf.MESSAGE_MAX_BYTES:
        text = (
            f"the call of {call.task} takes {len(body):,} bytes; CELERY_MESSAGE_MAX_BYTES allows"
            f" {conf.MESSAGE_MAX_BYTES:,}. "
            "Store the data (a model, a file) and send its key, or raise the setting and the broker's own limit."
        )
        raise MessageTooLarge(text)
    return content_type, encoding, body


def _check_shape(call: Call) -> None:
    if type(call.args) not in _LISTS and isinstance(call.args, str | bytes | Mapping | AbstractSet):
        text = f"the arguments of a call of {call.task} come as a list or tuple: write ({call.args!r:.20},)"
        raise TypeError(text)
    names: list[Any] = list(call.kwargs)
    if odd := [name for name in names if not isinstance(name, str)]:
        raise UnsendableArgument(f"the keyword argument {odd[0]!r:.80} of {call.task} has a name that is not a text")


def serializer_of(content_type: str) -> str:
    """Return the name of the serializer that writes `content_type`."""
    return str(serializers.type_to_name.get(content_type, content_type))


def _body_of(call: Call, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": call.task,
        "id": call.task_id,
        "args": args,
        "kwargs": kwargs,
        "retries": call.retries,
        "eta": call.eta.isoformat() if call.eta else None,
        "expires": call.expires.isoformat() if call.expires else None,
        "utc": True,
        "taskset": call.taskset,
    }


def pack_headers(message: Message) -> str:
    """Return headers and content type as one text for a row: empty when all is at its default."""
    extras: dict[str, Any] = dict(message.headers)
    if message.content_type != JSON:
        extras |= {"content-type": message.content_type, "content-encoding": message.content_encoding}
    return to_json(extras) if extras else ""


def unpack_headers(packed: str) -> tuple[str, str, dict[str, Any]]:
    """Return content type, content encoding and headers from `pack_headers`' text; defaults from any other text."""
    if not packed or packed.count("{") + packed.count("[") > MOST_CONTAINERS:
        return JSON, "utf-8", {}
    try:
        headers = _named("headers", _typed("headers", from_json(packed), (dict,)))
        to_json(headers)  # what can be read, and not be written again, would end whoever keeps the message
    except Exception:  # noqa: BLE001 - rows are untrusted; the body tells the rest
        headers = {}
    return str(headers.pop("content-type", JSON)), str(headers.pop("content-encoding", "utf-8")), headers


def _serialize(body: Any, serializer: str) -> tuple[str, str, bytes]:
    if serializer == "json":
        return JSON, "utf-8", _encode(body).encode()
    content_type, encoding, data = kombu_dumps(body, serializer=serializer)
    return content_type, encoding, data.encode() if isinstance(data, str) else data


def to_json(value: Any) -> str:
    """Return `value` as the JSON text that messages and results use; TypeError or ValueError if it has none."""
    text: str = _encode(_carried(value))
    return text


def from_json(text: str) -> Any:
    """Return the value behind `to_json`'s text. Raises whatever the text provokes: treat all as bad input."""
    return json.loads(text, object_hook=_object_hook if "__type__" in text else None)


def _object_hook(mapping: dict[str, Any]) -> Any:
    if mapping.keys() == _MARKED and mapping["__type__"] == ESCAPED:
        return _named(ESCAPED, dict(mapping["__value__"]))
    return kombu_object_hook(mapping)


def _carried(value: Any) -> Any:
    """Return `value` in a form that survives the wire; TypeError where JSON would change it in silence.

    A dictionary that looks like one of kombu's own marks is escaped, so that it arrives as it was sent.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, dict):
        return _carried_mapping(value)
    if isinstance(value, list | tuple):
        return [_carried(item) for item in value]
    return value


def _carried_mapping(mapping: dict[Any, Any]) -> dict[str, Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"the dictionary key {key!r} is of type {type(key).__name__}; JSON has only text keys")
    carried = {key: _carried(value) for key, value in mapping.items()}
    if carried.keys() == _MARKED:
        return {"__type__": ESCAPED, "__value__": list(carried.items())}
    return carried


def _unsendable(call: Call, serializer: str, error: Exception) -> UnsendableArgument:
    named = [(f"argument {number}", value) for number, value in enumerate(call.args, 1)]
    named += [(f"argument {name!r}", value) for name, value in call.kwargs.items()]
    for label, value in named:
        try:
            _serialize(_carried(value), serializer)
        except Exception as reason:  # noqa: BLE001 - any failure names its argument
            text = (
                f"{label} of {call.task}, of type {type(value).__name__}, cannot be sent as {serializer}: {reason}. "
                "Send plain data (a primary key instead of a model instance)."
            )
            return UnsendableArgument(text)
    return UnsendableArgument(f"the call of {call.task} cannot be sent as {serializer}: {error}")


def decode(body: bytes, *, content_type: str, content_encoding: str, headers: Mapping[str, Any]) -> Call:
    """Read the call out of a message of either protocol. Raises UndecodableMessage, and nothing else.

    kombu's readers raise TypeError, ValueError, RecursionError, InvalidOperation and more on hostile bodies.
    """
    try:
        if content_type == JSON and not _ACCEPTED_AS_JSON.isdisjoint(conf.ACCEPT_CONTENT):
            data = from_json(body.decode())
        else:
            data = _loaded(body, content_type, content_encoding)
        return _call_of(data, headers)
    except UndecodableMessage:
        raise
    except Exception as error:
        text = f"the message cannot be decoded ({content_type:.80}): {described(error)}"
        raise UndecodableMessage(text[:1000]) from error


def _loaded(body: bytes, content_type: str, content_encoding: str) -> Any:
    """Read a body by the serializer of its type, which kombu would not need: any codec, "zlib" too, may blow it up."""
    accepted: set[str] = prepare_accept_content(conf.ACCEPT_CONTENT)
    if content_type not in accepted:
        raise UndecodableMessage(f"messages of type {content_type!r:.80} are not accepted, only {sorted(accepted)}")
    return kombu_loads(body, content_type, content_encoding, accept=accepted)


def _call_of(data: Any, headers: Mapping[str, Any]) -> Call:
    if "task" in headers and isinstance(data, list | tuple) and len(data) == 3:  # noqa: PLR2004 - args, kwargs, embed
        args, kwargs, _embed = data
        fields: Mapping[str, Any] = {**headers, "taskset": headers.get("group")}
    elif isinstance(data, dict):
        args, kwargs, fields = data.get("args"), data.get("kwargs"), data
    else:
        text = f"the body of a message is a JSON object, not {type(data).__name__}"
        raise UndecodableMessage(text)
    return Call(
        task=_text(fields, "task"),
        task_id=_text(fields, "id"),
        args=_typed("args", args or (), (list, tuple)),
        kwargs=_named("kwargs", _typed("kwargs", kwargs or {}, (dict,))),
        retries=_counter("retries", fields.get("retries") or 0),
        eta=_moment("eta", fields.get("eta")),
        expires=_moment("expires", fields.get("expires")),
        taskset=_typed("taskset", fields.get("taskset") or None, (str, type(None))),
    )


def _typed(label: str, value: Any, types: tuple[type, ...]) -> Any:
    if not isinstance(value, types):
        raise UndecodableMessage(f"{label!r} of the message is of type {type(value).__name__}")
    return value


def _named(label: str, values: dict[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(name, str) for name in values):
        text = f"{label!r} of the message has names that are not text"
        raise UndecodableMessage(text)
    return values


def _counter(label: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_RETRIES:
        text = f"{label!r} of the message is not a count: {value!r:.80}"
        raise UndecodableMessage(text)
    return value


def _text(fields: Mapping[str, Any], label: str) -> str:
    value = fields.get(label)
    if not is_name(value):
        text = f"{label!r} of the message is missing, or is not a text of at most 255 characters: {value!r:.80}"
        raise UndecodableMessage(text)
    return str(value)


def sane(value: Any, maximum: int = LARGEST_COUNT) -> int:
    """Return `value` if it is a counter in its bounds, else 0: headers are untrusted, and SQLite stores anything."""
    return value if type(value) is int and 0 <= value <= maximum else 0


def is_name(value: Any) -> bool:
    """Tell whether `value` can be an id or a name: a text that fits its column and that every database takes."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or "\0" in value:
        return False
    return value.isascii() or value == value.encode("utf-8", "replace").decode()


def name_in(value: Any) -> str:
    """Return what a stranger gave for an id or a name as one that every database takes; "?" if there is nothing."""
    if type(value) is str and value.isascii() and 0 < len(value) <= LONGEST_NAME and "\0" not in value:
        return value  # as nearly always
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else f"{value}"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:LONGEST_NAME] or "?"


def _moment(label: str, value: Any) -> datetime | None:
    """Read an ISO 8601 moment; one without a zone is UTC (the body says ``"utc": true``)."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_typed(label, value, (str,)))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
