"""celery/models.py: rows name themselves, for the admin pages and for logs."""

import pytest

from celery.models import Message, TaskMeta, Worker


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (TaskMeta(task_id="some id", status="DONE"), "<Task: some id done:DONE>"),
        (Message(task="shop.add", task_id="some id", attempt=2), "<Message: shop.add some id attempt:2>"),
        (Worker(name="w@host", pid=42), "<Worker: w@host pid:42>"),
    ],
)
def test_a_row_names_itself(row: object, text: str) -> None:
    assert str(row) == text
