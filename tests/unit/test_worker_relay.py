"""The relay, with a broker and rows that are only pretended."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest

from celery import signals
from celery.broker.base import Broker, Passed, nothing
from celery.exceptions import BrokerUnreachable, LeaseLost, MessageTooLarge, UnroutableMessage
from celery.message import Message
from celery.worker import relay as relaying
from celery.worker.relay import FIRST_PAGE, FULL_PAUSE, LARGEST_PAGE, LONGEST_PAUSE, PAGE, REFUSED_PAUSE, SLICE, Relay


class Rows:
    """Rows by id: the message, who has it, and the moment before which nobody takes it."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Message, str | None, datetime | None]] = {}
        self._next_id = 0
        self.dead: dict[int, str] = {}
        self.pokes = 0

    def add(
        self,
        queue: str,
        *,
        owner: str | None = None,
        at: datetime | None = None,
        count: int = 1,
        body: bytes = b"{}",
    ) -> None:
        for _ in range(count):
            row_id = self._next_id = self._next_id + 1
            self.rows[row_id] = (Message(task_id=f"id {row_id}", task="a", body=body, queue=queue), owner, at)

    def _takeable(self, now: datetime) -> list[int]:
        return [row_id for row_id, (_, owner, at) in self.rows.items() if owner is None and (at is None or at <= now)]

    def has_relayable(self, now: datetime) -> bool:
        return bool(self._takeable(now))

    def take_for_relay(self, owner: str, now: datetime, limit: int) -> list[tuple[int, Message]]:
        taken = self._takeable(now)[:limit]
        for row_id in taken:
            self.rows[row_id] = (self.rows[row_id][0], owner, now)
        return [(row_id, self.rows[row_id][0]) for row_id in taken]

    def drop_relay_claims(self, owner: str) -> int:
        dropped = [row_id for row_id, row in self.rows.items() if row[1] == owner and row[2] is not None]
        for row_id in dropped:
            self.rows[row_id] = (self.rows[row_id][0], None, self.rows[row_id][2])
        return len(dropped)

    def postpone(self, owner: str, ids: Sequence[int], until: datetime) -> None:
        for row_id in ids:
            assert self.rows[row_id][1] == owner
            self.rows[row_id] = (self.rows[row_id][0], None, until)

    def finish(self, owner: str, ids: Sequence[int]) -> set[int]:
        ours = {row_id for row_id in ids if row_id in self.rows and self.rows[row_id][1] == owner}
        for row_id in ours:
            del self.rows[row_id]
        return ours

    def next_due(self) -> datetime | None:
        return min((at for _, owner, at in self.rows.values() if at and owner is None), default=None)

    def promote(self, now: datetime, limit: int) -> int:
        due = [row_id for row_id in self._takeable(now) if self.rows[row_id][2]][:limit]
        for row_id in due:
            self.rows[row_id] = (self.rows[row_id][0], None, None)
        return len(due)

    def poke(self) -> None:
        self.pokes += 1

    def bury(self, owner: str, row_id: int, *, crashes: int, reason: str) -> None:
        assert self.rows[row_id][1] == owner
        self.dead[row_id] = reason
        del self.rows[row_id]

    def queues_left(self) -> set[str]:
        return {message.queue for message, _, _ in self.rows.values()}


class Place(Broker):
    """Keeps what is published; refuses some queues, and may be away."""

    relays = True

    def __init__(self) -> None:
        super().__init__("place://")
        self.published: list[Message] = []
        self.refused: set[str] = set()
        self.too_large: set[str] = set()
        self.is_away = False
        #: How many more messages each of these queues takes before it is full.
        self.room: dict[str, int] = {}
        #: Queues that confirm nothing, and how many messages of each page all others confirm in time.
        self.silent: set[str] = set()
        self.pace = 10**6
        self.asked: list[tuple[str, int]] = []
        #: Called when a page is sent, and the next one claimed; and when it is confirmed.
        self.on_sent: Callable[[], object] = nothing
        self.on_confirmed: Callable[[], object] = nothing

    def pass_on(
        self, messages: Sequence[Message], deadline: float, meanwhile: Callable[[], object] = nothing
    ) -> Passed:
        meanwhile()
        self.on_sent()
        queue = messages[0].queue
        self.asked.append((queue, len(messages)))
        if queue in self.silent:
            return Passed(error=BrokerUnreachable("no answer"), is_silent=True)
        most = min(self.pace, self.room.get(queue, self.pace))
        passed = super().pass_on(messages[:most], deadline)
        self.on_confirmed()
        if passed.error or most >= len(messages):
            return passed
        if queue in self.room:
            self.room[queue] -= most
        error = BrokerUnreachable("full" if queue in self.room else "slow")
        return Passed(arrived=passed.arrived, error=error, is_refused=queue in self.room)

    def publish(self, messages: Sequence[Message]) -> None:
        if self.is_away:
            raise BrokerUnreachable("away")
        if refused := self.refused & {message.queue for message in messages}:
            raise UnroutableMessage(f"no queue {refused}")
        if large := self.too_large & {message.task_id for message in messages}:
            raise MessageTooLarge(f"{large} has too many bytes")
        self.published += messages


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def relay(place: Place, rows: Rows) -> Relay:
    return _relay(place, rows)


def _relay(place: Place, rows: Rows) -> Relay:
    return Relay(place, rows, "me", bury_worn_out=_living)  # type: ignore[arg-type]


def _living(rows: Sequence[tuple[int, Message]]) -> Sequence[tuple[int, Message]]:
    """Bury what the tests call worn out."""
    return [row for row in rows if row[1].queue != "worn out"]


def test_what_must_not_start_again_is_buried_and_not_published(relay: Relay, rows: Rows, place: Place) -> None:
    # given
    rows.add("worn out")
    rows.add("fresh")

    # when
    relay.step()

    # then
    assert [one.queue for one in place.published] == ["fresh"]


def _away(place: Place, relay: Relay) -> None:
    place.is_away = True
    with pytest.raises(BrokerUnreachable):
        relay.step()
    place.is_away = False


def test_what_is_ready_or_due_is_published_and_deleted(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=2)
    rows.add("mail", at=datetime.now(UTC) - timedelta(seconds=1))

    # when
    pause = relay.step()

    # then
    assert sorted(message.queue for message in place.published) == ["celery", "celery", "mail"]
    assert rows.rows == {}
    assert pause == LONGEST_PAUSE


def test_what_is_not_due_and_what_others_hold_stays(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", at=datetime.now(UTC) + timedelta(hours=1))
    rows.add("celery", owner="another")

    # when
    relay.step()

    # then
    assert place.published == []
    assert len(rows.rows) == 2


def test_page_after_page_is_published(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=2 * PAGE + 1)

    # when
    relay.step()

    # then
    assert len(place.published) == 2 * PAGE + 1
    assert rows.rows == {}


@pytest.mark.parametrize("refused", ["alpha", "beta", "gamma"])
def test_a_queue_that_the_broker_refuses_does_not_keep_others_waiting(
    relay: Relay, place: Place, rows: Rows, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    place.refused = {refused}
    for queue in ("alpha", "beta", "gamma"):
        rows.add(queue, count=2)

    # when
    relay.step()

    # then
    assert {message.queue for message in place.published} == {"alpha", "beta", "gamma"} - {refused}
    assert len(place.published) == 4
    assert rows.queues_left() == {refused}
    (record,) = caplog.records
    assert f"2 messages for queue {refused} wait for 60 s more" in record.getMessage()


def test_what_is_refused_waits_for_a_while_and_is_held_by_nobody(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    place.refused = {"alpha"}
    rows.add("alpha")
    before = datetime.now(UTC)

    # when
    relay.step()
    relay.step()

    # then
    ((_, owner, at),) = rows.rows.values()
    assert owner is None
    assert at is not None
    assert before <= at - timedelta(seconds=REFUSED_PAUSE) <= datetime.now(UTC)


def test_what_was_refused_is_published_when_its_queue_is_there(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    place.refused = {"alpha"}
    rows.add("alpha")
    relay.step()

    # when
    place.refused = set()
    (row_id,) = rows.rows
    rows.rows[row_id] = (rows.rows[row_id][0], None, datetime.now(UTC))
    relay.step()

    # then
    assert [message.queue for message in place.published] == ["alpha"]
    assert rows.rows == {}


def test_a_page_that_could_not_be_published_is_tried_again(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=3)
    _away(place, relay)
    assert len(rows.rows) == 3

    # when
    relay.step()

    # then
    assert len(place.published) == 3
    assert rows.rows == {}


def test_what_a_dead_steward_had_claimed_is_published_by_the_next(place: Place, rows: Rows) -> None:
    """The owner is that of the dispatcher, which lives on: nobody else would ever give these rows back."""
    # given
    rows.add("celery", count=3)
    rows.take_for_relay("me", datetime.now(UTC), PAGE)

    # when
    _relay(place, rows).step()

    # then
    assert len(place.published) == 3
    assert rows.rows == {}


def test_what_the_dispatcher_holds_is_no_claim_of_the_relay(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", owner="me")

    # when
    relay.step()

    # then
    assert place.published == []
    assert [owner for _, owner, _ in rows.rows.values()] == ["me"]


def test_a_message_that_the_broker_will_never_take_is_dead_and_the_others_of_its_page_go(
    relay: Relay, place: Place, rows: Rows
) -> None:
    # given
    rows.add("celery", count=3)
    place.too_large = {"id 2"}
    told: list[dict[str, str]] = []

    def listen(task_id: str, name: str, reason: str, **_: object) -> None:
        told.append({"task_id": task_id, "name": name, "reason": reason})

    signals.job_dead.connect(listen)

    # when
    try:
        relay.step()
    finally:
        signals.job_dead.disconnect(listen)

    # then
    assert sorted(message.task_id for message in place.published) == ["id 1", "id 3"]
    assert rows.rows == {}
    assert rows.dead == {2: "{'id 2'} has too many bytes"}
    assert told == [{"task_id": "id 2", "name": "a", "reason": rows.dead[2]}]


def test_the_next_look_is_at_the_moment_when_something_is_due(relay: Relay, rows: Rows) -> None:
    rows.add("celery", at=datetime.now(UTC) + timedelta(seconds=LONGEST_PAUSE / 2))
    rows.add("celery", at=datetime.now(UTC) + timedelta(seconds=1))

    assert 0.0 < relay.step() <= LONGEST_PAUSE / 2


def test_what_is_due_and_held_by_others_is_no_reason_to_look_at_once(relay: Relay, rows: Rows) -> None:
    rows.add("celery", at=datetime.now(UTC) - timedelta(seconds=1), owner="another")

    assert relay.step() == LONGEST_PAUSE


def test_a_slice_ends_in_time_however_much_is_due(
    relay: Relay, place: Place, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof of life is given between slices: here each page takes more than half of one."""
    # given
    rows.add("celery", count=3 * PAGE)
    moments = count(0.0, 0.3 * SLICE)
    monkeypatch.setattr(relaying, "time", SimpleNamespace(monotonic=lambda: next(moments)))

    # when
    pause = relay.step()

    # then
    assert pause == 0.0
    assert len(place.published) == FIRST_PAGE

    # when
    relay.step()

    # then
    assert len(place.published) == 2 * FIRST_PAGE


def test_queues_that_are_left_over_at_the_end_of_a_slice_go_first_in_the_next(
    relay: Relay, place: Place, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much keeps coming for the others."""
    # given
    queues = ("alpha", "beta", "gamma")
    moments = count(1.0, 0.6 * SLICE)
    monkeypatch.setattr(relaying, "time", SimpleNamespace(monotonic=lambda: next(moments)))

    # when
    served = []
    for _ in range(6):
        for queue in queues:
            rows.add(queue)
        relay.step()
        served.append(place.asked[-1][0])

    # then
    assert sorted(served[:3]) == sorted(served[3:]) == sorted(queues)


def test_what_a_full_queue_took_is_not_sent_again(relay: Relay, place: Place, rows: Rows) -> None:
    """Sent again as a whole, the first would fill the queue for ever, and the last never get there."""
    # given
    rows.add("celery", count=5)
    rows.add("mail", count=2)
    place.room = {"celery": 3}

    # when
    relay.step()

    # then
    assert sorted(message.queue for message in place.published) == ["celery"] * 3 + ["mail"] * 2
    assert [(message.task_id, owner) for message, owner, _ in rows.rows.values()] == [("id 4", None), ("id 5", None)]
    assert all(at and at <= datetime.now(UTC) + timedelta(seconds=FULL_PAUSE) for _, _, at in rows.rows.values())


def test_a_queue_that_is_silent_does_not_keep_others_waiting(relay: Relay, place: Place, rows: Rows) -> None:
    """A quorum queue without most of its nodes confirms nothing, for as long as that lasts."""
    # given
    rows.add("sick", count=3)
    rows.add("well", count=3)
    place.silent = {"sick"}

    # when
    with pytest.raises(BrokerUnreachable):
        relay.step()
    relay.step()

    # then
    assert [message.queue for message in place.published] == ["well"] * 3
    assert rows.queues_left() == {"sick"}
    assert {owner for _, owner, _ in rows.rows.values()} == {None}


def test_a_slow_broker_is_sent_fewer_at_once_and_nothing_twice(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=FIRST_PAGE)
    place.pace = 5

    # when
    relay.step()

    # then
    assert sorted(message.task_id for message in place.published) == sorted(f"id {n + 1}" for n in range(FIRST_PAGE))
    assert rows.rows == {}
    assert place.asked[:3] == [("celery", FIRST_PAGE), ("celery", FIRST_PAGE // 2), ("celery", FIRST_PAGE // 4)]


def test_pages_grow_while_bodies_are_small_and_only_then(relay: Relay, place: Place, rows: Rows) -> None:
    """A thousand messages of the largest size would not fit into memory."""
    # given
    rows.add("celery", count=5 * FIRST_PAGE)

    # when
    relay.step()

    # then
    assert [number for _, number in place.asked] == [FIRST_PAGE, FIRST_PAGE, 2 * FIRST_PAGE, FIRST_PAGE]

    # when
    place.asked.clear()
    body = bytes(2 * LARGEST_PAGE // FIRST_PAGE)
    rows.add("celery", body=body, count=PAGE + 2 * FIRST_PAGE)
    relay.step()

    # then
    assert [number for _, number in place.asked] == [PAGE, *[FIRST_PAGE // 2] * 4]


def test_the_next_page_is_claimed_while_the_broker_confirms(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=FIRST_PAGE + 3)
    held: list[int] = []
    place.on_sent = lambda: held.append(sum(owner == "me" for _, owner, _ in rows.rows.values()))

    # when
    relay.step()

    # then
    assert held == [FIRST_PAGE + 3, 3]
    assert len(place.published) == FIRST_PAGE + 3
    assert rows.rows == {}


def test_the_next_page_is_claimed_once_however_many_queues_a_page_has(
    relay: Relay, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    for number in range(FIRST_PAGE):
        rows.add(f"queue {number}")
    plain, claims = rows.take_for_relay, count()

    def take(owner: str, now: datetime, limit: int) -> list[tuple[int, Message]]:
        next(claims)
        return plain(owner, now, limit)

    monkeypatch.setattr(rows, "take_for_relay", take)

    # when
    relay.step()

    # then
    assert rows.rows == {}
    assert next(claims) == 2


def test_of_large_bodies_one_page_is_in_memory_at_a_time(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=2 * FIRST_PAGE, body=bytes(2 * LARGEST_PAGE // FIRST_PAGE))
    held: list[int] = []
    place.on_sent = lambda: held.append(sum(owner == "me" for _, owner, _ in rows.rows.values()))

    # when
    relay.step()

    # then
    assert held[0] == FIRST_PAGE
    assert rows.rows == {}


def test_what_was_claimed_ahead_goes_back_when_the_page_before_it_fails(relay: Relay, place: Place, rows: Rows) -> None:
    # given
    rows.add("celery", count=2 * FIRST_PAGE)
    _away(place, relay)
    rows.add("mail")
    other = _relay(place, rows)

    # when
    relay.step()
    other.step()

    # then
    sent = [message.task_id for message in place.published]
    assert sorted(sent) == sorted({f"id {number + 1}" for number in range(2 * FIRST_PAGE + 1)})
    assert rows.rows == {}


def test_a_lease_that_is_lost_while_the_broker_confirms_is_told_by_the_next_claim(
    relay: Relay, place: Place, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    rows.add("celery", count=2 * FIRST_PAGE)
    plain = rows.take_for_relay
    claims = count(1)

    def take(owner: str, now: datetime, limit: int) -> list[tuple[int, Message]]:
        if next(claims) > 1:
            raise LeaseLost("others have it")
        return plain(owner, now, limit)

    monkeypatch.setattr(rows, "take_for_relay", take)

    # when
    with pytest.raises(LeaseLost):
        relay.step()

    # then
    assert len(place.published) == FIRST_PAGE
    assert len(rows.rows) == FIRST_PAGE


def test_what_becomes_due_meanwhile_is_seen_at_once(relay: Relay, place: Place, rows: Rows) -> None:
    """After a page that is not full, and after one that is and leaves nothing."""
    # given
    rows.add("celery", count=FIRST_PAGE)
    late = iter(["mail", "post"])

    def arrive() -> None:
        if queue := next(late, None):
            rows.add(queue)

    place.on_confirmed = arrive

    # when
    relay.step()
    relay.step()

    # then
    assert [message.queue for message in place.published][FIRST_PAGE:] == ["mail", "post"]
    assert rows.rows == {}


def test_an_idle_relay_writes_nothing(relay: Relay, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    relay.step()
    written: list[object] = []
    for name in ("drop_relay_claims", "take_for_relay", "finish", "postpone"):
        monkeypatch.setattr(rows, name, lambda *arguments: written.append(arguments))

    # when
    relay.step()

    # then
    assert written == []


def test_where_the_queue_is_the_database_due_rows_become_ready(place: Place, rows: Rows) -> None:
    # given
    place.relays = False  # type: ignore[misc]
    rows.add("celery", at=datetime.now(UTC), count=2)

    # when
    _relay(place, rows).step()

    # then
    assert [at for _, _, at in rows.rows.values()] == [None, None]
    assert place.published == []
    assert rows.pokes == 1
