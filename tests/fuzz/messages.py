"""Targets: messages on their way from a stranger through a worker."""

import json
import struct
from base64 import b64encode
from contextlib import nullcontext
from datetime import UTC, datetime
from random import Random
from struct import unpack
from types import SimpleNamespace
from typing import Any

from amqp.exceptions import AMQPError
from django.core.signing import Signer
from django.test import override_settings

from celery import message as wire
from celery import states
from celery.broker.amqp import frames
from celery.broker.amqp.properties import delivery_of, properties_of
from celery.broker.redis import envelope
from celery.broker.store.base import deliveries, relayed_message
from celery.exceptions import CeleryError, RetryTask, UndecodableMessage, UntrustedMessage
from celery.message import Call, Delivery, Message
from celery.registry import tasks
from celery.task import callables
from celery.worker import child, job
from celery.worker.job import Job
from tests.fuzz.guard import nothing_runs
from tests.fuzz.mutator import Fields, field
from tests.fuzz.target import ACCEPTED, Target, reason_of, refusal

NOW, FAR = datetime(2026, 11, 22, 12, tzinfo=UTC), datetime(2222, 2, 22, tzinfo=UTC)
#: The tasks that hostile messages may run here.
ECHO, FAIL, AGAIN, ONCE = "fuzz.echo", "fuzz.fail", "fuzz.again", "fuzz.once"
VALUES: tuple[Any, ...] = (
    *(1, -7, 2**70, 1.5, "text", "é\0\ud800", None, True, b"\xff\0", NOW, [1, [2]], {"a": {"b": 1}}),
    {"__type__": "date", "__value__": 1},
)
MANY = ["json", "yaml"]


def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what it was given."""
    return [list(args), kwargs]


def fail(*args: Any, **kwargs: Any) -> None:
    """Raise what it was given."""
    raise ValueError(*args, *kwargs.items())


def again(*args: Any, **kwargs: Any) -> None:
    """Ask for another attempt with what it was given."""
    raise RetryTask(None, args=args, kwargs=kwargs, when=NOW)


def once(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing, at most once."""


once.acks_late = False  # type: ignore[attr-defined]


def use_our_tasks() -> None:
    """Have no task here but some that do no harm, and those that run what was sealed."""
    for name in [name for name in tasks if name not in {"celery.execute_remote", "celery.map_async"}]:
        del tasks[name]
    for name, function in {ECHO: echo, FAIL: fail, AGAIN: again, ONCE: once}.items():
        tasks.register(function, name=name)


# -- valid ones


def _call(chance: Random) -> Call:
    return Call(
        task=chance.choice((ECHO, ECHO, FAIL, AGAIN, ONCE, "shop.tasks.add")),
        task_id=f"{chance.getrandbits(64):x}",
        args=chance.choices(VALUES, k=chance.randrange(3)),
        kwargs={name: chance.choice(VALUES) for name in chance.sample(("x", "y", "order"), chance.randrange(3))},
        retries=chance.choice((0, 0, 1, 7)),
        eta=chance.choice((None, None, NOW, FAR)),
        expires=chance.choice((None, None, None, NOW, FAR)),
        taskset=chance.choice((None, "a-set")),
    )


def _second_protocol(call: Call) -> tuple[dict[str, Any], bytes]:
    headers = {
        "lang": "py",
        "task": call.task,
        "id": call.task_id,
        "root_id": call.task_id,
        "group": call.taskset,
        "retries": call.retries,
        "eta": call.eta and call.eta.isoformat(),
        "expires": None,
    }
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return headers, wire.to_json([list(call.args), dict(call.kwargs), embed]).encode()


def _message(chance: Random) -> Message:
    call = _call(chance)
    headers: dict[str, Any] = chance.choice(({}, {}, {"traceparent": "00-1-2-01"}, {wire.UNKNOWN_FOR: 1.0}))
    kind, encoding, body = wire.encode(call, "json")
    if chance.random() < 0.3:
        headers, body = _second_protocol(call)
    if chance.random() < 0.05:
        kind, encoding, body = wire.encode(Call(task=ECHO, task_id="1", args=(1, "x")), "yaml")
    return Message(
        task_id=call.task_id,
        task=call.task,
        body=body,
        queue="celery",
        attempt=chance.choice((1, 1, 2, 40)),
        priority=chance.choice((None, 0, 5)),
        headers=headers,
        content_type=kind,
        content_encoding=encoding,
        crashes=chance.choice((0, 0, 2)),
    )


# -- the body, with its type and headers


def _valid_body(chance: Random) -> Fields:
    message = _message(chance)
    return [
        wire.pack_headers(message).encode(),
        message.content_type.encode(),
        message.content_encoding.encode(),
        message.body,
        chance.choice((b"", b"", b"many")),
    ]


def _check_body(fields: Fields) -> str:
    """A call with fields of the right types and sizes, or UndecodableMessage."""
    with override_settings(CELERY_ACCEPT_CONTENT=MANY) if field(fields, 4) else nullcontext():
        packed, kind, encoding, body = (field(fields, position) for position in range(4))
        with nothing_runs():
            headers = wire.unpack_headers(_as_text(packed))[2]
            return _read(body, _as_text(kind), _as_text(encoding), headers)


def _read(body: bytes, kind: str, encoding: str, headers: dict[str, Any]) -> str:
    try:
        call = wire.decode(body, content_type=kind, content_encoding=encoding, headers=headers)
    except UndecodableMessage as error:
        return reason_of(error)
    _assert_sound(call)
    try:
        wire.encode(call, "json")
    except CeleryError as error:
        return f"{type(error).__name__}: read, and cannot be sent again as it is"
    return ACCEPTED


def _assert_sound(call: Call) -> None:
    assert wire.is_name(call.task)
    assert wire.is_name(call.task_id)
    assert isinstance(call.args, list | tuple)
    assert isinstance(call.kwargs, dict)
    assert all(isinstance(name, str) for name in call.kwargs)
    assert 0 <= call.retries < wire.LARGEST_ATTEMPT
    assert call.taskset is None or isinstance(call.taskset, str)
    for moment in (call.eta, call.expires):
        assert moment is None or moment.utcoffset() is not None


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# -- deliveries, whatever they came by


def _carried(delivery: Delivery) -> str:
    """Check a delivery: it fits the columns, it goes to a child as it is, and can be read or not there."""
    assert wire.is_name(delivery.task_id)
    assert 0 <= delivery.attempt <= wire.LARGEST_ATTEMPT
    assert abs(delivery.rank) <= wire.LARGEST_COUNT
    assert 0 <= delivery.starts <= wire.LARGEST_COUNT
    assert 0 <= delivery.crashes <= wire.LARGEST_COUNT
    parts = job.pack(7, 0, delivery)
    arrived = job.unpack(b"".join(parts))
    assert arrived == Job(7, 0, delivery._replace(tag=None, suspect=False))
    wire.pack_headers(job.as_message(delivery))
    try:
        job.call_of(arrived.delivery)
    except UndecodableMessage as error:
        return reason_of(error)
    return ACCEPTED


# -- RabbitMQ


def _valid_frames(chance: Random) -> Fields:
    message = _message(chance)
    properties = properties_of(message, max_priority=chance.choice((None, 9)))
    tag = struct.pack(">QB", chance.randrange(1, 10**6), chance.random() < 0.2)
    deliver = b"\0\x3c\0\x3c" + b"\x04me.0" + tag + b"\x06celery" + b"\x06celery"
    data = frames.content(1, properties, message.body, chance.choice((64, 4096, 131072)))
    contents = []
    while data:
        size = unpack(">BHI", data[:7])[2]
        contents.append(data[7 : 7 + size])
        data = data[8 + size :]
    return [deliver, *contents]


def _check_frames(fields: Fields) -> str:
    """What was announced arrives and can be handed on, or amqp's own error of a broken connection."""
    inbox = frames.Inbox().bind(SimpleNamespace(bytes_recv=0), lambda *_: None)
    try:
        with nothing_runs():
            inbox((frames.METHOD, 1, field(fields, 0)))
            inbox((frames.HEADER, 1, field(fields, 1)))
            for chunk in fields[2:]:
                inbox((frames.BODY, 1, chunk))
            found = [delivery_of(one, "celery", (1, one.tag)) for one in inbox.arrived]
    except AMQPError as error:
        return reason_of(error)
    verdicts = [_carried(one) for one in found]
    return verdicts[0] if verdicts else refusal("not complete")


# -- Redis


def _valid_item(chance: Random) -> Fields:
    return [envelope.envelope_of(_message(chance), _Channel(in_base64=chance.random() < 0.7)).encode()]


class _Channel:
    """What kombu's channel adds to a message."""

    def __init__(self, *, in_base64: bool) -> None:
        self._in_base64 = in_base64

    def prepare_message(self, body: bytes, **fields: Any) -> dict[str, Any]:
        encoding = "base64" if self._in_base64 else "utf-8"
        properties = {**fields["properties"], "priority": fields["priority"], "body_encoding": encoding}
        return {
            "body": b64encode(body).decode() if self._in_base64 else body.decode(),
            "content-type": fields["content_type"],
            "content-encoding": fields["content_encoding"],
            "headers": fields["headers"],
            "properties": properties,
        }

    def _inplace_augment_message(self, message: dict[str, Any], exchange: str, queue: str) -> None:
        message["properties"] |= {"delivery_tag": "1", "delivery_info": {"exchange": exchange, "routing_key": queue}}


def _check_item(fields: Fields) -> str:
    """Whatever lies in the list of a queue can be handed on."""
    with nothing_runs():
        found = envelope.read(field(fields, 0), "celery", (1, 1))
    return _carried(found)


# -- rows


def _valid_row(chance: Random) -> Fields:
    one = _message(chance)
    row = [one.task, one.task_id, one.attempt, "celery", -(one.priority or 0), wire.pack_headers(one), None, 5]
    return [json.dumps([*row, False, chance.choice((0, 2)), one.crashes]).encode(), one.body]


def _row_of(fields: Fields) -> tuple[Any, ...] | None:
    """Return what a database may answer: SQLite keeps numbers, text and bytes in any column."""
    try:
        values = json.loads(field(fields, 0))
        if len(values) != 11:
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    row = [_of_sqlite(value) for value in values]
    row[7] = row[7] if type(row[7]) is int and 0 < row[7] < 2**63 else 1  # the primary key is one in any case
    if row[6] is None:
        row[6] = field(fields, 1)
    return tuple(row)


def _of_sqlite(value: Any) -> Any:
    if isinstance(value, bool | None):
        return value and int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float("inf")
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape" if _is_escaped(value) else "surrogatepass")
        return data if not _is_utf8(data) else value
    return value if isinstance(value, int | float) else json.dumps(value).encode()


def _is_escaped(value: str) -> bool:
    return all(not 0xD800 <= ord(one) <= 0xDFFF or 0xDC80 <= ord(one) <= 0xDCFF for one in value)


def _is_utf8(data: bytes) -> bool:
    try:
        return bool(data.decode()) or not data
    except UnicodeDecodeError:
        return False


def _check_row(fields: Fields) -> str:
    """A claimed row can be handed on, and a relayed one published."""
    row = _row_of(fields)
    if row is None:
        return refusal("no row")
    with nothing_runs():
        (found,) = deliveries([row[1:]])
        _, message = relayed_message(row)
        properties_of(message, max_priority=9)
        wire.pack_headers(message)
    return _carried(found)


# -- datagrams of the worker itself


def _valid_datagram(chance: Random) -> Fields:
    one = _message(chance)
    packed = wire.pack_headers(one)
    found = Delivery(one.task_id, one.attempt, one.queue, 0, packed, one.body, row_id=3, crashes=one.crashes)
    return [b"".join(job.pack(9, 0, found)), job.pack_answers([(1, job.SETTLE), (2, job.LOST)])]


def _check_datagram(fields: Fields) -> str:
    """They come from a process of ours: what is cut or changed is told by the one error of its reader."""
    with nothing_runs():
        try:
            job.unpack_answers(field(fields, 1))
            job.unpack(field(fields, 0))
        except (struct.error, UnicodeDecodeError) as error:
            return reason_of(error)
    return ACCEPTED


# -- what a child does with it


def _check_work(fields: Fields) -> str:
    """Nothing gets out of a child, and what follows fits the columns of every database."""
    row = _row_of(fields)
    if row is None:
        return refusal("no row")
    (found,) = deliveries([row[1:]])
    if found.starts:
        found = found._replace(row_id=0)  # as if it had come from another broker
    with nothing_runs(but=("open", "compile")):  # a traceback shows lines of sources
        outcome = child.execute(Job(1, 0, found))
    patience = 3600.0 * (len(found.body) % 2)
    plan = job.consequences(outcome, worker="w", unknown_patience=patience)
    assert outcome.kind in {*states.ALL_STATES, job.UNDECODABLE, job.UNKNOWN, job.POSTPONED, job.NOT_RUN}
    if plan.result:
        _assert_storable(plan.result.task_id, plan.result.name, texts=(plan.result.result, plan.result.traceback))
        assert 0 < plan.result.attempt <= wire.LARGEST_ATTEMPT
    if plan.message:
        packed = wire.pack_headers(plan.message)
        _assert_storable(plan.message.task_id, plan.message.task, texts=(packed, plan.message.reason or ""))
    return ACCEPTED if outcome.kind == states.DONE else f"{outcome.kind}: {_pattern(outcome.error)}"


def _pattern(error: str) -> str:
    return reason_of(ValueError(error)).removeprefix("ValueError: ")


def _assert_storable(*names: str, texts: tuple[str, ...]) -> None:
    for name in names:
        assert not name or wire.is_name(name), f"no column takes the name {name!r:.80}"
    for text in texts:
        assert "\0" not in text
        assert isinstance(text.encode(), bytes)


# -- sealed calls


def _valid_seal(chance: Random) -> Fields:
    task, task_id = chance.choice(("celery.execute_remote", "celery.map_async")), f"{chance.getrandbits(64):x}"
    arguments = [chance.choices(VALUES[:5], k=2), {}]
    name, text, seal = callables.sealed(task, task_id, "_operator:add", arguments)
    more = ["more"] if chance.random() < 0.05 else []
    return [one.encode() for one in (task, task_id, name, text, seal, *more)]


def _check_seal(fields: Fields) -> str:
    """Admitted is what carries the seal over exactly these four texts, and nothing else."""
    task, task_id, name, text, seal = (_as_text(field(fields, position)) for position in range(5))
    is_genuine = seal == _signature(task, task_id, name, text)
    args: list[Any] = [name, text, seal, *map(_as_text, fields[5:])]
    try:
        with nothing_runs():
            callables.check(Call(task=task, task_id=task_id, args=args))
    except UntrustedMessage as error:
        assert not is_genuine or len(args) != callables.PARTS
        return refusal("not sealed" if "is not sealed" in f"{error}"[-60:] else "the seal does not fit")
    assert is_genuine, "a seal was admitted that is not ours"
    return ACCEPTED


def _signature(*texts: str) -> str:
    return Signer(salt=callables.SALT).signature(wire.to_json(list(texts)))


TARGETS = (
    Target(name="body", share=0.16, valid=_valid_body, check=_check_body),
    Target(
        name="frames",
        share=0.12,
        valid=_valid_frames,
        check=_check_frames,
    ),
    Target(name="redis", share=0.09, valid=_valid_item, check=_check_item),
    Target(name="row", share=0.07, valid=_valid_row, check=_check_row),
    Target(name="work", share=0.04, valid=_valid_row, check=_check_work),
    Target(name="datagram", share=0.05, valid=_valid_datagram, check=_check_datagram),
    Target(name="seal", share=0.08, valid=_valid_seal, check=_check_seal),
)
