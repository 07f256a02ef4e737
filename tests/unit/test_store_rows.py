"""Rows of messages as a database answers them: SQLite keeps values of any type in any column."""

from typing import Any

import pytest

from celery import message as wire
from celery.broker.amqp.properties import properties_of
from celery.broker.store.base import deliveries, relayed_message
from celery.broker.store.statements import as_bytes
from celery.worker import job

ROW = {
    "task_id": "0b8a",
    "attempt": 1,
    "queue": "celery",
    "rank": 0,
    "headers": "",
    "body": b"{}",
    "id": 5,
    "suspect": 0,
    "starts": 0,
    "crashes": 0,
}
ODD: tuple[Any, ...] = (b"\xff\0", 7, -(2**63), 1.5, float("inf"), None, "", "a\0b", "x" * 300)


def row_with(**fields: Any) -> tuple[Any, ...]:
    return tuple((ROW | fields).values())


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("column", [name for name in ROW if name != "id"])
def test_a_row_with_an_odd_value_can_be_handed_to_a_child(column: str, value: Any) -> None:
    # when
    (found,) = deliveries([row_with(**{column: value})])

    # then
    assert wire.is_name(found.task_id)
    assert job.unpack(b"".join(job.pack(1, 0, found))).delivery == found._replace(suspect=False)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("column", [name for name in ROW if name != "id"])
def test_a_row_with_an_odd_value_can_be_published(column: str, value: Any) -> None:
    # when
    row_id, message = relayed_message(("shop.add", *row_with(**{column: value})))

    # then
    assert row_id == 5
    assert properties_of(message, max_priority=9)
    assert wire.pack_headers(message)


@pytest.mark.parametrize("task", ODD, ids=repr)
def test_an_odd_name_of_a_task_does_not_stop_the_relay(task: Any) -> None:
    assert wire.is_name(relayed_message((task, *row_with()))[1].task)


def test_a_number_for_a_body_is_not_the_number_of_its_bytes() -> None:
    """`bytes` of a number are so many zeros: a row could take all memory, again after each new start."""
    assert as_bytes(10**12) == b"1000000000000"


@pytest.mark.parametrize("headers", ["\ud800", b"\xff", 7, None], ids=repr)
def test_headers_that_no_encoding_has_are_none(headers: Any) -> None:
    (found,) = deliveries([row_with(headers=headers)])

    assert found.headers == ""
