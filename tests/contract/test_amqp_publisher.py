"""What the broker on RabbitMQ promises to those who send."""

import json
import logging
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from django.db import transaction
from pytest_django import Settings

from celery.broker import amqp_publisher
from celery.broker.amqp import AmqpBroker
from celery.broker.base import OUTBOX_GRACE
from celery.broker.store.base import Store
from celery.exceptions import BrokerUnreachable, MessageTooLarge, UnroutableMessage
from celery.message import Message
from celery.models import Message as Row
from tests.helpers import eventually
from tests.proxy import Proxy

T = TypeVar("T")

pytestmark = pytest.mark.rabbitmq


# -- helpers


@pytest.fixture
def through(proxy: Proxy) -> Iterator[AmqpBroker]:
    """A broker behind the proxy."""
    made = AmqpBroker(f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
    yield made
    made._publisher.drop()


@pytest.fixture
def impatient(settings: Settings) -> float:
    settings.CELERY_PUBLISH_TIMEOUT = 0.5
    return 0.5


def message(queue: str, **fields: Any) -> Message:
    task_id = str(uuid.uuid4())
    body = json.dumps({"task": "shop.add", "id": task_id, "args": [1, 2], "kwargs": {}}).encode()
    return Message(**{"task_id": task_id, "task": "shop.add", "body": body, "queue": queue} | fields)


def fetch(server: Any, queue: str) -> Any:
    """Take the next message off the queue, None if there is none."""
    return server.basic_get(queue, no_ack=True)


def fetch_all(server: Any, queue: str) -> list[Any]:
    return list(iter(lambda: fetch(server, queue), None))


def ids(found: list[Any]) -> list[str]:
    return [one.properties["correlation_id"] for one in found]


def in_thread(function: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(30)
    return found[0]


# -- what arrives


def test_a_published_message_arrives_as_celery_would_send_it(broker: AmqpBroker, server: Any, queue: str) -> None:
    sent = message(queue)

    broker.publish([sent])

    found = fetch(server, queue)
    assert found.body.encode() == sent.body
    assert found.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "correlation_id": sent.task_id,
    }


def test_attempt_and_crashes_travel_as_headers(broker: AmqpBroker, server: Any, queue: str) -> None:
    broker.publish([message(queue, attempt=3, crashes=2, headers={"traceparent": "00-ab"})])

    assert fetch(server, queue).headers == {"attempt": 3, "crashes": 2, "traceparent": "00-ab"}


def test_headers_that_amqp_cannot_carry_stay_behind(broker: AmqpBroker, server: Any, queue: str) -> None:
    broker.publish([message(queue, headers={"good": 1, "odd": uuid.uuid4(), "huge": 2**70, "k" * 300: 1})])

    assert fetch(server, queue).headers == {"good": 1}


def test_an_id_too_long_for_a_property_travels_as_a_header(broker: AmqpBroker, server: Any, queue: str) -> None:
    broker.publish([message(queue, task_id="ä" * 200)])

    found = fetch(server, queue)
    assert found.headers == {"id": "ä" * 200}
    assert "correlation_id" not in found.properties


def test_a_thousand_messages_arrive_in_their_order(broker: AmqpBroker, server: Any, queue: str) -> None:
    sent = [message(queue) for _ in range(1000)]

    broker.publish(sent)

    assert ids(fetch_all(server, queue)) == [one.task_id for one in sent]


def test_bodies_of_any_size_arrive_whole(broker: AmqpBroker, server: Any, queue: str) -> None:
    frame = 131072 - 8
    bodies = [os.urandom(size) for size in (0, 1, frame - 1, frame, frame + 1, 3_000_000)]

    broker.publish([message(queue, body=body, content_encoding="binary") for body in bodies])

    assert [found.body or b"" for found in fetch_all(server, queue)] == bodies


def test_priority_travels_only_where_queues_have_priorities(
    broker: AmqpBroker, server: Any, queue: str, settings: Settings
) -> None:
    broker.publish([message(queue, priority=7)])
    assert "priority" not in fetch(server, queue).properties
    server.queue_delete(queue)
    broker._publisher.drop()

    settings.CELERY_QUEUE_MAX_PRIORITY = 5
    broker.publish([message(queue, priority=priority) for priority in (None, 2, 9, -1)])

    assert [found.properties["priority"] for found in fetch_all(server, queue)] == [5, 2, 0, 0]


def test_queues_are_declared_as_celery_declares_its_own(broker: AmqpBroker, server: Any, queue: str) -> None:
    broker.publish([message(queue)])

    server.exchange_declare("celery", "direct", durable=True, auto_delete=False)
    assert server.queue_declare(queue, durable=True, auto_delete=False).message_count == 1


def test_quorum_queues_are_a_setting(broker: AmqpBroker, server: Any, queue: str, settings: Settings) -> None:
    settings.CELERY_QUEUE_TYPE = "quorum"

    broker.publish([message(queue)])

    arguments = {"x-queue-type": "quorum"}
    server.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)


def test_the_depth_of_a_queue_counts_what_is_ready(broker: AmqpBroker, queue: str) -> None:
    assert broker.depth(queue) == 0
    broker.publish([message(queue) for _ in range(3)])
    assert broker.depth(queue) == 3


def test_nothing_to_publish_needs_no_server() -> None:
    AmqpBroker("amqp://127.0.0.1:1//").publish([])


# -- connections


def test_a_connection_is_kept_and_belongs_to_one_thread(through: AmqpBroker, proxy: Proxy, queue: str) -> None:
    through.publish([message(queue)])
    through.publish([message(queue)])
    assert proxy.accepted == 1

    in_thread(lambda: through.publish([message(queue)]))

    assert proxy.accepted == 2
    assert eventually(lambda: proxy.connections == 1)  # that of the thread ended with it


def test_a_forked_child_leaves_the_connection_of_its_parent_alone(
    through: AmqpBroker, proxy: Proxy, queue: str
) -> None:
    through.publish([message(queue)])

    pid = os.fork()
    if not pid:
        try:
            through.publish([message(queue)])
            through._publisher.drop()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

    through.publish([message(queue)])
    assert proxy.accepted == 2
    assert through.depth(queue) == 3


def test_a_connection_that_was_lost_while_idle_is_replaced_unnoticed(
    through: AmqpBroker, proxy: Proxy, server: Any, queue: str
) -> None:
    through.publish([message(queue)])
    proxy.cut()

    through.publish([message(queue)])

    first, second = fetch_all(server, queue)
    assert first.headers is second.headers is None  # nothing was sent twice


def test_what_was_not_confirmed_on_a_lost_connection_is_sent_again_and_marked(
    through: AmqpBroker, proxy: Proxy, server: Any, queue: str
) -> None:
    through.publish([message(queue)])
    sent = message(queue)
    proxy.is_deaf = True

    def cut_when_it_arrived() -> None:
        assert eventually(lambda: server.queue_declare(queue, passive=True).message_count == 2)
        proxy.is_deaf = False
        proxy.cut()

    thread = threading.Thread(target=cut_when_it_arrived)
    thread.start()
    through.publish([sent])
    thread.join()

    _, first, second = fetch_all(server, queue)
    assert ids([first, second]) == [sent.task_id, sent.task_id]
    assert (first.headers, second.headers) == (None, {"relayed": 1})


def test_the_connection_is_dropped_after_any_exception(
    broker: AmqpBroker, server: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([message(queue)])
    line: Any = broker._publisher._line

    monkeypatch.setattr(line.connection, "drain_events", interrupt)
    with pytest.raises(KeyboardInterrupt):
        broker.publish([message(queue)])

    assert not line.connection.is_usable
    broker.publish([message(queue)])
    assert len(fetch_all(server, queue)) == 3


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_next_of_several_servers_is_tried(amqp_url: str, queue: str) -> None:
    broker = AmqpBroker(f"amqp://guest:guest@127.0.0.1:{free_port()}//;{amqp_url}")

    broker.publish([message(queue)])

    assert broker.depth(queue) == 1
    broker._publisher.drop()


# -- what goes wrong


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def failing_within(seconds: float, match: str) -> Iterator[pytest.ExceptionInfo[BrokerUnreachable]]:
    """Expect BrokerUnreachable; the limit is generous, it tells waiting from hanging."""
    begin = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=match) as caught:
        yield caught
    assert time.monotonic() - begin < seconds


def test_an_unreachable_server_is_named_without_its_password(impatient: float) -> None:
    port = free_port()
    broker = AmqpBroker(f"amqp://me:secret@127.0.0.1:{port}//")

    with failing_within(5, f"127.0.0.1:{port} cannot be reached.*CELERY_BROKER_URL") as caught:
        broker.publish([message("any")])

    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_told(amqp_url: str) -> None:
    broker = AmqpBroker(amqp_url.replace("guest:guest", "guest:wrong"))

    with pytest.raises(BrokerUnreachable, match=r"(?s)refused.*Check user, password"):
        broker.publish([message("any")])


def test_a_server_that_says_nothing_is_not_waited_for(impatient: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = AmqpBroker(f"amqp://127.0.0.1:{listener.getsockname()[1]}//")

        with failing_within(5, "did not answer within 0.5 s"):
            broker.publish([message("any")])


def test_a_server_of_another_kind_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = AmqpBroker(f"amqp://127.0.0.1:{listener.getsockname()[1]}//")
        thread = threading.Thread(target=answer_as_web_server, args=(listener,))
        thread.start()

        with pytest.raises(BrokerUnreachable, match="does not speak AMQP"):
            broker.publish([message("any")])
        thread.join()


def answer_as_web_server(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.recv(8)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


def test_a_server_that_stops_answering_is_not_waited_for(
    through: AmqpBroker, proxy: Proxy, queue: str, impatient: float
) -> None:
    through.publish([message(queue)])
    proxy.stall()

    with failing_within(5, "may arrive later"):
        through.publish([message(queue)])


def test_a_server_that_stops_reading_is_not_waited_for(
    through: AmqpBroker, proxy: Proxy, queue: str, impatient: float
) -> None:
    through.publish([message(queue)])
    proxy.stall()

    with failing_within(10, "may arrive later"):
        through.publish([message(queue, body=bytes(1_000_000)) for _ in range(30)])


def test_a_slow_server_is_waited_for_while_confirms_come_in(
    through: AmqpBroker, proxy: Proxy, queue: str, impatient: float
) -> None:
    through.publish([message(queue)])
    proxy.delay = impatient / 4

    through.publish([message(queue, body=bytes(65536)) for _ in range(16)])

    assert through.depth(queue) == 17


def test_a_refused_message_raises(broker: AmqpBroker, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    monkeypatch.setattr(amqp_publisher, "queue_arguments", lambda: arguments)

    with pytest.raises(BrokerUnreachable, match="refused the message"):
        broker.publish([message(queue) for _ in range(5)])


def test_a_message_above_the_limit_of_the_server_raises(broker: AmqpBroker, queue: str) -> None:
    with pytest.raises(MessageTooLarge, match="size"):
        broker.publish([message(queue, body=bytes(150_000_000))])


def test_a_queue_that_was_deleted_meanwhile_is_declared_anew(broker: AmqpBroker, server: Any, queue: str) -> None:
    broker.publish([message(queue)])
    server.queue_delete(queue)
    sent = [message(queue) for _ in range(3)]

    broker.publish(sent)

    found = fetch_all(server, queue)
    assert ids(found) == [one.task_id for one in sent]
    assert [one.headers for one in found] == [None, None, None]


def test_an_exchange_that_was_deleted_meanwhile_is_declared_anew(
    broker: AmqpBroker, server: Any, queue: str, settings: Settings
) -> None:
    settings.CELERY_AMQP_EXCHANGE = queue
    broker.publish([message(queue)])
    server.exchange_delete(queue)

    broker.publish([message(queue)])

    assert broker.depth(queue) == 2
    server.exchange_delete(queue)


def test_a_message_without_a_queue_raises(broker: AmqpBroker, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.publish([message(queue)])  # so that the exchange exists
    monkeypatch.setattr(amqp_publisher, "declare", lambda channel, queue: None)

    with pytest.raises(UnroutableMessage, match="no queue 'missing'"):
        broker.publish([message("missing"), message(queue)])


def test_a_queue_with_other_arguments_raises_what_to_do(broker: AmqpBroker, queue: str, settings: Settings) -> None:
    broker.publish([message(queue)])
    broker._publisher.drop()
    settings.CELERY_QUEUE_MAX_PRIORITY = 5

    with pytest.raises(UnroutableMessage, match=f"'{queue}'.*exists.*Delete it.*CELERY_QUEUE_MAX_PRIORITY"):
        broker.publish([message(queue)])

    settings.CELERY_QUEUE_MAX_PRIORITY = None
    broker.publish([message(queue)])


def test_the_name_of_a_queue_has_a_limit(broker: AmqpBroker) -> None:
    with pytest.raises(UnroutableMessage, match="at most 255 bytes"):
        broker.publish([message("ä" * 200)])


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def tls_port(amqp_url: str, certificate: Path) -> Iterator[int]:
    parts = urlsplit(amqp_url)
    with Proxy(parts.hostname or "", parts.port or 0, certificate=certificate) as made:
        yield made.port


def test_messages_travel_under_tls(tls_port: int, certificate: Path, server: Any, queue: str) -> None:
    broker = AmqpBroker(f"amqps://guest:guest@127.0.0.1:{tls_port}//?ssl_ca_certs={certificate}")
    sent = [message(queue, body=os.urandom(1000), content_encoding="binary") for _ in range(500)]

    broker.publish([*sent, message(queue, body=bytes(1_000_000))])
    broker.publish([message(queue)])

    assert [found.body for found in fetch_all(server, queue)][:500] == [one.body for one in sent]
    broker._publisher.drop()


def test_a_server_with_an_unknown_certificate_is_refused(tls_port: int) -> None:
    with pytest.raises(BrokerUnreachable, match="certificate"):
        AmqpBroker(f"amqps://guest:guest@127.0.0.1:{tls_port}//").publish([message("any")])


# -- inside transactions


@pytest.fixture
def publishes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each call of publish had."""
    counts: list[int] = []
    plain = amqp_publisher.Publisher.publish

    def counting(self: amqp_publisher.Publisher, messages: list[Message]) -> None:
        counts.append(len(messages))
        plain(self, messages)

    monkeypatch.setattr(amqp_publisher.Publisher, "publish", counting)
    return counts


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """A transaction, or a savepoint in one, that fails at its end."""
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):  # noqa: PT012 - the caller's block
        yield
        raise ZeroDivisionError


def test_messages_of_a_transaction_leave_together_after_its_commit(
    alias: str, broker: AmqpBroker, server: Any, queue: str, publishes: list[int]
) -> None:
    sent = [message(queue) for _ in range(3)]

    with transaction.atomic(using=alias):
        for one in sent:
            assert broker.send([one]) == alias
        assert broker.depth(queue) == 0

    found = fetch_all(server, queue)
    assert ids(found) == [one.task_id for one in sent]
    assert [one.headers for one in found] == [None, None, None]  # first copies: nothing to look up
    assert publishes == [3]
    assert not Row.objects.using(alias).exists()


def test_messages_of_a_rolled_back_savepoint_do_not_leave(
    alias: str, broker: AmqpBroker, server: Any, queue: str
) -> None:
    before, within, after = (message(queue) for _ in range(3))

    with transaction.atomic(using=alias):
        broker.send([before])
        with rolled_back(alias):
            broker.send([within])
        broker.send([after])

    assert ids(fetch_all(server, queue)) == [before.task_id, after.task_id]


def test_messages_after_a_savepoint_that_sent_first_leave_too(
    alias: str, broker: AmqpBroker, server: Any, queue: str
) -> None:
    with transaction.atomic(using=alias):
        with rolled_back(alias):
            broker.send([message(queue)])
        broker.send([message(queue)])

    assert len(fetch_all(server, queue)) == 1


def test_a_rolled_back_transaction_leaves_nothing_behind(
    alias: str, broker: AmqpBroker, queue: str, publishes: list[int]
) -> None:
    with rolled_back(alias):
        broker.send([message(queue) for _ in range(5)])
    assert broker._local.outbox() is None

    with transaction.atomic(using=alias):
        broker.send([message(queue)])

    assert publishes == [1]


def test_a_hook_may_send_in_a_transaction_of_its_own(alias: str, broker: AmqpBroker, server: Any, queue: str) -> None:
    def send_more() -> None:
        with transaction.atomic(using=alias):
            broker.send([message(queue)])

    with transaction.atomic(using=alias):
        broker.send([message(queue)])
        transaction.on_commit(send_more, using=alias)
        broker.send([message(queue)])

    assert len(fetch_all(server, queue)) == 3
    assert not Row.objects.using(alias).exists()


def test_an_unreachable_broker_is_logged_and_the_rows_wait_for_the_relay(
    alias: str, kept: Store, impatient: float, caplog: pytest.LogCaptureFixture
) -> None:
    broker = AmqpBroker(f"amqp://127.0.0.1:{free_port()}//")
    ran: list[bool] = []

    with caplog.at_level(logging.WARNING, "celery.broker"), transaction.atomic(using=alias):
        broker.send([message("any"), message("any")])
        broker.send([message("any")])
        transaction.on_commit(lambda: ran.append(True), using=alias)

    assert ran == [True]
    (record,) = caplog.records
    assert f"a worker sends them in {OUTBOX_GRACE:.0f} s" in record.getMessage()
    assert Row.objects.using(alias).filter(visible_at__isnull=False, owner__isnull=True).count() == 3


def test_rows_that_a_relay_has_taken_are_left_to_it(
    alias: str, broker: AmqpBroker, kept: Store, server: Any, queue: str
) -> None:
    free, taken = kept.insert([message(queue)]), kept.insert([message(queue)], owner="a" * 32)

    broker.forward([*free, *taken, 999_999])

    assert [row.pk for row in Row.objects.using(alias).all()] == taken
    assert len(fetch_all(server, queue)) == 1


def test_delayed_messages_stay_in_the_database(alias: str, broker: AmqpBroker, queue: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    with transaction.atomic(using=alias):
        broker.send([message(queue, visible_at=later), message(queue)])
    broker.send([message(queue, visible_at=later)])

    assert broker.depth(queue) == 1
    assert Row.objects.using(alias).count() == 2
