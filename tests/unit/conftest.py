"""What unit tests share: a registry of their own, and a broker that keeps what it is given."""

from collections.abc import Iterator, Sequence

import hypothesis
import pytest

from celery import broker
from celery.broker.base import Broker
from celery.message import Message
from celery.registry import tasks

# Many properties, each tried often enough to find what is wrong within a few runs. No deadline: machines are busy.
hypothesis.settings.register_profile("unit", max_examples=30, deadline=None)
hypothesis.settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    """Forget the tasks that a test registers."""
    before = dict(tasks)
    yield
    tasks.clear()
    tasks.update(before)


class Recorder(Broker):
    """Takes over messages and keeps them, a batch an entry."""

    def __init__(self) -> None:
        super().__init__("recorder://")
        self.batches: list[Sequence[Message]] = []

    def send(self, messages: Sequence[Message]) -> str | None:
        """Keep them; there is no transaction."""
        self.batches.append(messages)
        return None

    @property
    def messages(self) -> list[Message]:
        """All messages of all batches."""
        return [message for batch in self.batches for message in batch]

    @property
    def message(self) -> Message:
        """The one message that was sent."""
        (message,) = self.messages
        return message


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What is sent goes here instead of to a broker."""
    recorder = Recorder()
    monkeypatch.setattr(broker, "current", lambda: recorder)
    return recorder
