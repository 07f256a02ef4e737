"""The broker on Redis without a server: its URL, its messages, its errors."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from celery import message as wire
from celery.broker import by_url
from celery.broker.redis import RedisBroker
from celery.broker.redis.connection import address_of, explained
from celery.broker.redis.envelope import read, step_of
from celery.broker.redis.publisher import LARGEST_PAGE, PAGE, pages
from celery.exceptions import BrokerUnreachable
from celery.message import Delivery, Message

TAG = (1, 2)


def message(**fields: Any) -> Message:
    return Message(**{"task_id": "an-id", "task": "shop.add", "body": b"{}", "queue": "celery"} | fields)


# -- the URL


@pytest.mark.parametrize(
    ("url", "server", "database", "timeout"),
    [
        ("redis://", "localhost:6379", 0, 60.0),
        ("redis://host", "host:6379", 0, 60.0),
        ("redis://me:secret@host:7000/3", "host:7000", 3, 60.0),
        ("redis://:secret@host/4?visibility_timeout=5.5", "host:6379", 4, 5.5),
    ],
)
def test_a_url_is_read(url: str, server: str, database: int, timeout: float) -> None:
    address = address_of(url)

    assert (address.server, address.database, address.visibility_timeout) == (server, database, timeout)
    assert "visibility_timeout" not in address.url


def test_certificates_are_verified_unless_the_url_says_otherwise() -> None:
    assert "ssl_cert_reqs=required" in address_of("rediss://host/0").url
    assert "ssl_cert_reqs=none" in address_of("rediss://host/0?ssl_cert_reqs=none").url
    assert "ssl" not in address_of("redis://host/0").url


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://host/zero", "names one Redis server"),
        ("redis://host:port/0", "names one Redis server"),
        ("redis://one:6379/0;redis://two:6379/0", "names one Redis server"),
        ("redis://host/0?visibility=5", "'visibility'.*visibility_timeout"),
        ("redis://host/0?visibility_timeout=soon", "number of seconds"),
        ("redis://host/0?visibility_timeout=0", "at least 1"),
        ("redis://host/0?visibility_timeout=inf", "number of seconds"),
        ("redis://host/0?visibility_timeout=nan", "number of seconds"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(url: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=text):
        by_url(url)


def test_a_password_is_never_told() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        RedisBroker("redis://me:secret@host:port/0")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        ("sys.modules['redis'] = None", "needs the package redis: run `pip install redis`"),
        ("import redis; redis.VERSION = (5, 9, 0)", "needs redis 6.1 or later"),
    ],
    ids=["missing", "old"],
)
def test_the_package_that_it_needs_is_named(prepare: str, text: str) -> None:
    code = f"import sys; {prepare}\nfrom celery.broker import by_url\nby_url('redis://host/0')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "ImproperlyConfigured" in done.stderr
    assert text in done.stderr


# -- messages


@pytest.mark.parametrize(("priority", "step"), [(None, 9), (-3, 9), (0, 9), (1, 8), (5, 4), (9, 0), (10, 0), (1000, 0)])
def test_what_is_urgent_here_has_a_low_number_there(priority: int | None, step: int) -> None:
    assert step_of(message(priority=priority)) == step


def item(**fields: Any) -> bytes:
    body = {"body": b64encode(b"{}").decode(), "headers": {}, "content-type": "application/json"}
    properties = {"properties": {"body_encoding": "base64", "correlation_id": "an-id", "priority": 9}}
    return json.dumps({"content-encoding": "utf-8", **body, **properties, **fields}).encode()


def test_a_message_in_the_usual_form_is_read() -> None:
    assert read(item(), "q", TAG) == Delivery("an-id", 0, "q", 0, "", b"{}", tag=TAG)


@pytest.mark.parametrize(
    "place",
    [
        {"redelivered": True},
        {"headers": {"redelivered": True}},
        {"properties": {"body_encoding": "base64", "delivery_info": {"redelivered": True}}},
    ],
    ids=["ours", "kombu's header", "kombu's delivery info"],
)
def test_whoever_has_brought_it_back_it_is_a_suspect(place: dict[str, Any]) -> None:
    found = read(item(**place), "q", TAG)

    assert found.suspect
    assert found.headers == ""


def test_a_body_that_is_text_is_read() -> None:
    assert read(item(properties={}, body="{ä}"), "q", TAG).body == "{ä}".encode()


def test_what_nobody_can_read_is_kept_as_it_is_and_has_no_type() -> None:
    found = read(b"\xff{", "q", TAG)

    assert found.body == b"\xff{"
    assert wire.unpack_headers(found.headers)[0] == "application/data"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
known = st.sampled_from(["properties", "headers", "body", "content-type", "content-encoding", "redelivered"])
inner_names = st.sampled_from(["priority", "correlation_id", "body_encoding", "delivery_info", "attempt", "id"])


@given(
    st.dictionaries(known, json_values | st.dictionaries(inner_names, json_values)).map(json.dumps).map(str.encode)
    | st.binary()
)
def test_no_bytes_harm_the_reader(data: bytes) -> None:
    found = read(data, "q", TAG)

    assert wire.is_name(found.task_id)
    assert (found.queue, found.tag) == ("q", TAG)
    assert isinstance(found.body, bytes)
    assert found.attempt >= 0
    assert -9 <= found.rank <= 0
    wire.unpack_headers(found.headers)


def test_pages_are_bounded_in_number_and_size() -> None:
    small = [message() for _ in range(2 * PAGE + 1)]
    large = [message(body=bytes(LARGEST_PAGE // 2)) for _ in range(3)]

    assert [len(page) for page in pages(small)] == [PAGE, PAGE, 1]
    assert [len(page) for page in pages(large)] == [2, 1]
    assert list(pages([])) == []


# -- errors


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.TimeoutError("Timeout reading"), "did not answer within 2 s.*may arrive later"),
        (redis.AuthenticationError("WRONGPASS"), "refused: WRONGPASS. Check user"),
        (redis.exceptions.NoPermissionError("no permissions"), "refused: no permissions. Check user"),
        (redis.BusyLoadingError("loading"), "refused: loading. See its log"),
        (redis.ResponseError("Command # 1 (LPUSH q {}) of pipeline caused error: full."), "refused: full. See its log"),
        (redis.ConnectionError("Error 111"), "cannot be reached: Error 111. Is it running"),
        (OSError("no route"), "cannot be reached: no route"),
    ],
)
def test_errors_say_where_and_what_to_do(error: Exception, text: str) -> None:
    address: Any = SimpleNamespace(server="host:6379")

    found = explained(error, address, patience=2.0)

    assert isinstance(found, BrokerUnreachable)
    assert "Redis at host:6379" in str(found)
    assert re.search(text, str(found))
