"""Some thousand hostile messages, and then ordinary work: done by the same children, with nothing lost in silence."""

import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from struct import error as StructError  # noqa: N812 - a class
from typing import Any

import kombu
import pytest
from amqp import Message as AmqpMessage
from amqp.exceptions import AMQPError
from django.db import connections

from celery import message as wire
from celery.exceptions import UndecodableMessage
from celery.message import Message
from celery.models import Message as Row
from celery.models import TaskMeta
from tests.fuzz import messages as fuzz
from tests.fuzz.mutator import TOKENS, mutated
from tests.helpers import eventually
from tests.integration.places import Place
from tests.integration.worker import WorkerProcess
from tests.shop import tasks

SOON = 90.0
HOSTILE = 2000
SEED = 5
MEGABYTE = 1024 * 1024
SETTINGS = {"CELERY_UNKNOWN_TASK_PATIENCE": 0.2, "CELERYD_LEASE": 30}


class Deed:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self._canary,)


def _bodies(canary: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield type, encoding and body of messages that were made to do harm."""
    yield "application/x-python-serialize", "binary", pickle.dumps(Deed(canary))
    yield "application/x-yaml", "utf-8", f'!!python/object/apply:os.system ["touch {canary}"]'.encode()
    yield "application/text", "zlib", zlib.compress(b"\0" * 100 * MEGABYTE)
    yield "application/data", "bz2", b"BZh9"
    for argument in ("[" * 100_000, "9" * 1_000_000, '"\\u0000"', '"\\ud800"', '{"__type__": "os.system"}'):
        yield wire.JSON, "utf-8", f'{{"task": "tests.shop.tasks.echo", "id": "odd", "args": [{argument}]}}'.encode()
    forged = ["os:system", json.dumps([[f"touch {canary}"], {}]), "x" * 43]
    for args in (forged, forged[:2], [*forged, "more"]):
        call = {"task": "celery.execute_remote", "id": "forged", "args": args, "kwargs": {}}
        yield wire.JSON, "utf-8", json.dumps(call).encode()
    for token in TOKENS:
        yield wire.JSON, "utf-8", token


def _hostile(queue: str, canary: Path, *, count: int) -> list[Message]:
    """Return messages whose envelope is ours, so that each can be found again, and whose content is a stranger's."""
    chance = Random(SEED)
    made = []
    for number in range(count):
        headers, kind, encoding, body, _ = mutated(fuzz._valid_body(chance), chance)[:5]
        made.append(_message(number, queue, body, kind, encoding, headers))
    for number, (its_type, its_encoding, its_body) in enumerate(_bodies(canary), count):
        made.append(_message(number, queue, its_body, its_type.encode(), its_encoding.encode(), b""))
    return made


def _message(number: int, queue: str, body: bytes, kind: bytes, encoding: bytes, headers: bytes) -> Message:  # noqa: PLR0913, PLR0917
    found = wire.unpack_headers(headers.decode("utf-8", "replace"))[2]
    return Message(
        task_id=f"hostile-{number}",
        task="hostile",
        body=body.replace(b"fuzz.echo", b"tests.shop.tasks.echo").replace(b"fuzz.once", b"shop.add"),
        queue=queue,
        headers=found,
        content_type=kind.decode("ascii", "replace")[:200],
        content_encoding=encoding.decode("ascii", "replace")[:100],
    )


def _ids_of(message: Message) -> set[str]:
    """Return the ids by which it may be found again: that of its envelope, and that of the call if there is one."""
    kind, encoding, headers = wire.unpack_headers(wire.pack_headers(message))
    try:
        call = wire.decode(message.body, content_type=kind, content_encoding=encoding, headers=headers)
    except UndecodableMessage:
        return {message.task_id}
    return {message.task_id, call.task_id}


def _all_found(place: Place, ids: Sequence[set[str]]) -> bool:
    """Fail until each is dead with a reason, waits for its moment, or has a result."""
    rows = Row.objects.values_list("task_id", "dead_at", "reason", "visible_at")
    kept = {task_id for task_id, dead_at, reason, visible_at in rows if visible_at or (dead_at and reason)}
    ended = set(TaskMeta.objects.exclude(status="PENDING").values_list("task_id", flat=True))
    missing = [some for some in ids if some.isdisjoint(kept | ended)]
    assert not missing, f"{len(missing)} of {len(ids)} are missing, such as {missing[:5]}"
    return True


def _assert_it_works(worker: WorkerProcess, children: Sequence[Any]) -> None:
    """Send ordinary work, and see it done by the children that were there before."""
    results = [tasks.add.delay(number, number) for number in range(100)]
    assert [result.get(timeout=SOON) for result in results] == [2 * number for number in range(100)]
    worker.look()
    assert worker.children == list(children)


def _publish(place: Place, messages: Sequence[Message]) -> int:
    """Publish as a stranger does, each with its headers if client and server can carry them; return how many have some.

    Each is confirmed before the next: what RabbitMQ does not bear ends its connection.
    """
    count = 0
    connection = _connect(place)
    try:
        for one in messages:
            try:
                _send(connection, place.queue, one, dict(one.headers))
                count += bool(one.headers)
            except (TypeError, ValueError, AttributeError, StructError, AMQPError, OSError):
                connection.release()
                connection = _connect(place)
                _send(connection, place.queue, one, {})
    finally:
        connection.release()
    return count


def _connect(place: Place) -> kombu.Connection:
    return kombu.Connection(place.broker_url, transport_options={"confirm_publish": True})


def _send(connection: kombu.Connection, queue: str, one: Message, headers: dict[str, Any]) -> None:
    properties = {"content_type": one.content_type, "content_encoding": one.content_encoding, "delivery_mode": 2}
    message = AmqpMessage(one.body, application_headers=headers, correlation_id=one.task_id, **properties)
    connection.default_channel.basic_publish_confirm(message, routing_key=queue, timeout=SOON)


@pytest.mark.timeout(300)
def test_hostile_messages_leave_the_worker_as_it_was(place: Place, tmp_path: Path) -> None:
    # given
    canary = tmp_path / "canary"
    hostile = _hostile(place.queue, canary, count=HOSTILE)
    with WorkerProcess(place, settings=SETTINGS) as worker, worker.unharmed():
        children = list(worker.children)
        tasks.add.delay(1, 1).get(timeout=SOON)  # its queue is there

        # when
        if place.kind == "rabbitmq":
            assert _publish(place, hostile) > 100
        else:
            place.kept.insert(hostile)

        # then
        ids = [_ids_of(one) for one in hostile]
        eventually(lambda: _all_found(place, ids), within=SOON)
        _assert_it_works(worker, children)
        assert not canary.exists()


@pytest.mark.timeout(300)
def test_bodies_of_a_hundred_megabytes_leave_the_worker_as_it_was(database_place: Place) -> None:
    # given
    text = b"x" * (100 * MEGABYTE)
    bodies = {
        "no-json": b"{" + text,
        "a-call": b'{"task": "tests.shop.tasks.echo", "id": "a-call", "args": ["' + text + b'"]}',
    }
    with WorkerProcess(database_place, settings=SETTINGS) as worker, worker.unharmed():
        children = list(worker.children)

        # when
        for task_id, body in bodies.items():
            database_place.kept.insert([Message(task_id=task_id, task="?", body=body, queue=database_place.queue)])

        # then
        eventually(lambda: TaskMeta.objects.filter(task_id__in=bodies, status="FAILURE").count() == 2, within=SOON)
        dead = Row.objects.filter(dead_at__isnull=False).values_list("task_id", "reason")
        assert [(task_id, "JSONDecodeError" in reason) for task_id, reason in dead] == [("no-json", True)]
        _assert_it_works(worker, children)


#: What SQLite keeps in columns made for something else: task_id, attempt, task, rank, body, headers, starts.
ODD_ROWS: tuple[tuple[Any, ...], ...] = (
    (b"\xff\xfe", 1, b"\xff", 0, b"{}", "", 0),
    ("bytes for headers", 1, "t", 0, b"{}", b"\xff", 0),
    ("a number for a body", 1, "t", 0, 10**12, "", 0),
    ("text for a body", 1, "t", 0, "{", "", 0),
    ("text for numbers", "one", "t", "high", b"{}", "", "none"),
    ("numbers beyond all columns", 2**62, "t", -(2**62), b"{}", "", 2**40),
    ("x" * 300, 1, "t" * 300, 0, b"{}", '{"task": "' + "y" * 300 + '"}', 0),
)


NO_UTF8 = "'no utf-8', 1, CAST(X'FF' AS TEXT), 0, CAST(X'FF' AS TEXT), CAST(X'FF' AS TEXT), 0"
INSERT = (
    "INSERT INTO celery_message (task_id, attempt, task, rank, body, headers, starts, queue, created_at, suspect,"
    " crashes, reason) VALUES ({}, %s, '2026-11-22', 0, 0, '')"
)


@pytest.mark.timeout(120)
def test_rows_of_the_wrong_types_leave_the_worker_as_it_was(sqlite_place: Place) -> None:
    # given
    with WorkerProcess(sqlite_place, settings=SETTINGS) as worker, worker.unharmed():
        children = list(worker.children)

        # when
        with connections[sqlite_place.alias].cursor() as cursor:
            for row in ODD_ROWS:
                cursor.execute(INSERT.format("%s, %s, %s, %s, %s, %s, %s"), [*row, sqlite_place.queue])
            cursor.execute(INSERT.format(NO_UTF8), [sqlite_place.queue])

        # then
        ids = [{wire.name_in(row[0])} for row in ODD_ROWS] + [{"no utf-8"}]
        eventually(lambda: _all_found(sqlite_place, ids), within=SOON)
        _assert_it_works(worker, children)
