"""What the broker on RabbitMQ promises to those who send."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import amqp
import pytest
from amqp.exceptions import AccessRefused
from pytest_django import Settings

from celery.broker.amqp import AmqpBroker
from celery.broker.amqp import line as amqp_line
from celery.broker.amqp import queues as amqp_queues
from celery.broker.amqp.properties import properties_of
from celery.exceptions import BrokerUnreachable, MessageTooLarge, UnroutableMessage
from celery.message import Message
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


# -- connections


def test_a_connection_is_kept_and_belongs_to_one_thread(through: AmqpBroker, proxy: Proxy, queue: str) -> None:
    through.publish([message(queue)])
    through.publish([message(queue)])
    assert proxy.accepted == 1

    in_thread(lambda: through.publish([message(queue)]))

    assert proxy.accepted == 2
    assert eventually(lambda: proxy.connections == 1)  # that of the thread ended with it


def test_the_connection_is_dropped_after_any_exception(
    broker: AmqpBroker, server: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([message(queue)])
    publisher: Any = broker._publisher
    line = publisher._line

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


def test_a_wrong_password_is_told(amqp_url: str) -> None:
    broker = AmqpBroker(amqp_url.replace("guest:guest", "guest:wrong"))

    with pytest.raises(BrokerUnreachable, match=r"(?s)refused.*Check user, password"):
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


def test_a_slow_server_is_waited_for_while_confirms_come_in(
    through: AmqpBroker, proxy: Proxy, queue: str, impatient: float
) -> None:
    through.publish([message(queue)])
    proxy.delay = impatient / 4

    through.publish([message(queue, body=bytes(65536)) for _ in range(16)])

    assert through.depth(queue) == 17


def test_a_refused_message_raises(broker: AmqpBroker, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    monkeypatch.setattr(amqp_queues, "queue_arguments", lambda: arguments)

    with pytest.raises(BrokerUnreachable, match="refused the message"):
        broker.publish([message(queue) for _ in range(5)])


def test_a_message_above_the_limit_of_the_server_raises(broker: AmqpBroker, queue: str) -> None:
    with pytest.raises(MessageTooLarge, match="size"):
        broker.publish([message(queue, body=bytes(150_000_000))])


def test_headers_that_fill_their_frame_arrive_and_one_byte_more_raises(
    broker: AmqpBroker, server: Any, queue: str
) -> None:
    """RabbitMQ ends the connection for it: as often as the relay tries, and nothing behind it would ever leave."""
    most = (
        131072 - amqp_line.HEADER_OVERHEAD - len(properties_of(message(queue, headers={"big": ""}), max_priority=None))
    )

    broker.publish([message(queue, headers={"big": "x" * most})])
    with pytest.raises(MessageTooLarge, match="headers of task"):
        broker.publish([message(queue, headers={"big": "x" * (most + 1)})])

    assert [len(found.headers["big"]) for found in fetch_all(server, queue)] == [most]


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
    monkeypatch.setattr(amqp_line, "declare", lambda channel, queue: None)

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


# -- what is passed on from the database


SOON = 30.0


def soon() -> float:
    return time.monotonic() + SOON


def test_what_a_full_queue_refuses_is_told_apart_from_what_it_took(
    broker: AmqpBroker, server: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again as a whole, the first of them would fill the queue for ever, and the last never get there."""
    # given
    arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}
    monkeypatch.setattr(amqp_queues, "queue_arguments", lambda: arguments)
    sent = [message(queue) for _ in range(8)]

    # when
    passed = broker.pass_on(sent, soon())

    # then
    assert (passed.is_refused, passed.is_silent) == (True, False)
    assert isinstance(passed.error, BrokerUnreachable)
    assert 0 < len(passed.arrived) < 8
    assert sorted(ids(fetch_all(server, queue))) == sorted(sent[place].task_id for place in passed.arrived)


def test_what_is_to_be_done_meanwhile_is_done_before_the_confirms_are_awaited(
    broker: AmqpBroker, server: Any, queue: str
) -> None:
    # given
    sent = [message(queue) for _ in range(3)]
    broker.publish([message(queue)])
    sender: Any = broker._publisher
    unconfirmed: list[int] = []

    # when
    passed = broker.pass_on(sent, soon(), meanwhile=lambda: unconfirmed.append(len(sender._line.unconfirmed)))

    # then
    assert unconfirmed == [3]
    assert list(passed.arrived) == [0, 1, 2]
    assert len(fetch_all(server, queue)) == 4


def test_an_exception_of_what_is_done_meanwhile_is_not_taken_for_one_of_the_server(
    broker: AmqpBroker, queue: str
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broker.pass_on([message(queue)], soon(), meanwhile=fail)

    assert list(broker.pass_on([message(queue)], soon()).arrived) == [0]


def test_what_no_queue_takes_is_told_apart_from_what_has_arrived(
    broker: AmqpBroker, server: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    broker.publish([message(queue)])
    monkeypatch.setattr(amqp_line, "declare", lambda channel, queue: None)
    sent = [message(queue), message("missing"), message(queue)]

    # when
    passed = broker.pass_on(sent, soon())

    # then
    assert list(passed.arrived) == [0, 2]
    assert isinstance(passed.error, UnroutableMessage)
    assert len(fetch_all(server, queue)) == 3


def test_nothing_is_sent_to_a_server_that_does_not_read(
    through: AmqpBroker, proxy: Proxy, server: Any, queue: str, impatient: float
) -> None:
    """A server with an alarm reads later what it was sent meanwhile: a copy of each message for each try."""
    # given
    through.publish([message(queue)])
    sent = [message(queue) for _ in range(3)]
    proxy.stall()

    # when
    tries = [through.pass_on(sent, soon()) for _ in range(3)]

    # then
    assert [(list(passed.arrived), passed.is_silent) for passed in tries] == [([], False)] * 3
    assert all(isinstance(passed.error, BrokerUnreachable) for passed in tries)

    # when
    proxy.resume()
    assert list(through.pass_on(sent, soon()).arrived) == [0, 1, 2]

    # then
    assert ids(fetch_all(server, queue))[1:] == [one.task_id for one in sent]


def test_a_new_connection_sends_nothing_to_a_server_that_does_not_read(
    through: AmqpBroker, server: Any, queue: str, impatient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    broker_reads = amqp_line.Line.probe

    def stall(line: amqp_line.Line) -> None:
        raise TimeoutError

    monkeypatch.setattr(amqp_line.Line, "probe", stall)

    # when
    with pytest.raises(BrokerUnreachable):
        through.publish([message(queue)])

    # then
    monkeypatch.setattr(amqp_line.Line, "probe", broker_reads)
    through.publish([])
    assert through.depth(queue) == 0


def test_a_user_who_may_not_ask_publishes_without_asking(
    broker: AmqpBroker, server: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions may end at our own exchange; the question goes to the default one."""
    # given
    asked: list[bool] = []

    def refuse(line: amqp_line.Line) -> None:
        asked.append(True)
        line._channel.basic_publish(amqp.Message("{}"), "amq.rabbitmq.trace.missing", "")
        raise AccessRefused("no")

    monkeypatch.setattr(amqp_line.Line, "probe", refuse)

    # when
    broker.publish([message(queue)])
    passed = broker.pass_on([message(queue)], soon())

    # then
    assert passed.error is None
    assert asked == [True]
    assert broker.depth(queue) == 2


def test_what_is_passed_on_ends_at_its_deadline_however_slowly_it_goes(
    through: AmqpBroker, proxy: Proxy, queue: str
) -> None:
    """The steward gives proof of life in between."""
    # given
    through.publish([message(queue)])
    proxy.delay = 0.2
    sent = [message(queue, body=bytes(65536)) for _ in range(40)]

    # when
    passed = through.pass_on(sent, time.monotonic() + 1.0)

    # then
    assert len(passed.arrived) < 40
    assert isinstance(passed.error, BrokerUnreachable)

    # when
    proxy.delay = 0.0

    # then
    assert through.depth(queue) >= 1 + len(passed.arrived)


def test_a_queue_that_answers_nothing_is_told_apart_from_a_server_that_does_not(
    broker: AmqpBroker, queue: str, impatient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue that has lost most of its nodes confirms nothing; the others go on."""

    # given
    def be_silent(line: amqp_line.Line, messages: Any, *_: object) -> None:
        line._expect(messages)
        raise TimeoutError

    monkeypatch.setattr(amqp_line.Line, "publish", be_silent)

    # when
    passed = broker.pass_on([message(queue)], soon())

    # then
    assert (list(passed.arrived), passed.is_silent, passed.is_refused) == ([], True, False)


def test_what_was_not_confirmed_when_the_connection_was_cut_is_published_once_more(
    through: AmqpBroker, proxy: Proxy, server: Any, queue: str
) -> None:
    # given
    through.publish([message(queue)])
    sender: Any = through._publisher
    line = sender._line
    sent = [message(queue) for _ in range(3)]
    plain = line._send

    def cut(messages: Any) -> None:
        proxy.cut()
        plain(messages)

    line._send = cut

    # when
    passed = through.pass_on(sent, soon())

    # then
    assert list(passed.arrived) == [0, 1, 2]
    found = fetch_all(server, queue)[1:]
    assert ids(found) == [one.task_id for one in sent]
    assert {one.headers["relayed"] for one in found} == {1}


# -- TLS


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
