"""Errands of the dispatcher: suspects, crashes, rows to give back. The store and the backend are only pretended."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import transaction

from celery import backends, message, signals, states
from celery.backends.base import Result
from celery.message import Call, Delivery, Message
from celery.worker import errands
from celery.worker.errands import RUN, SETTLE, Asked
from celery.worker.job import MOST_STARTS
from celery.worker.rescue import ONLY_START, Rescue


class Rows:
    """A store that remembers what it was asked to do."""

    alias = "default"

    def __init__(self, *ours: int) -> None:
        self.ours = set(ours)
        self.lease = True
        self.known: set[tuple[str, int]] = set()
        self.did: list[tuple[Any, ...]] = []
        self.inserted: list[Message] = []

    def _own(self, what: str, ids: Sequence[int], *facts: Any) -> set[int]:
        found = self.ours & set(ids)
        self.did += [(what, row_id, *facts) for row_id in sorted(found)]
        return found

    def insert(self, messages: Iterable[Message], *, owner: str | None = None, takes_over: bool = False) -> list[int]:
        ids = []
        for one in messages:
            if (one.task_id, one.attempt) not in self.known:
                self.known.add((one.task_id, one.attempt))
                self.inserted.append(one)
                ids.append(100 + len(self.inserted))
                if owner:
                    self.ours.add(ids[-1])
        return ids

    def finish(self, owner: str, ids: Sequence[int]) -> set[int]:
        return self._own("finish", ids)

    def has_lease(self, owner: str) -> bool:
        return self.lease

    def release(self, owner: str, ids: Sequence[int], *, marked: bool) -> set[int]:
        return self._own("release", ids, marked)

    def held_row(self, owner: str, task_id: str, attempt: int) -> int:
        return 0

    def mark_started(self, owner: str, row_id: int, *, starts: int) -> bool:
        return bool(self._own("mark", [row_id], starts))

    def count_crash(self, owner: str, row_id: int, *, crashes: int, marked: bool) -> bool:
        return bool(self._own("crash", [row_id], crashes, marked))

    def bury(self, owner: str, row_id: int, *, crashes: int, reason: str) -> bool:
        return bool(self._own("bury", [row_id], crashes, reason))

    def poke(self) -> None:
        pass


class Results:
    def __init__(self) -> None:
        self.shut: set[tuple[str, int]] = set()
        self.stored: list[Result] = []

    def closed(self, attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        return self.shut & set(attempts)

    def store(self, results: Sequence[Result]) -> set[str]:
        self.stored += results
        return {result.task_id for result in results}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Results:
    results = Results()
    monkeypatch.setattr(backends, "default", lambda: results)
    monkeypatch.setattr(transaction, "atomic", lambda using: nullcontext())
    return results


@pytest.fixture
def rows(results: Results) -> Rows:
    return Rows(1, 2, 3)


def _asked(kind: str, *, number: int = 7, marked: bool = False, detail: str = "", **fields: Any) -> Asked:
    body = message.encode(Call(task="shop.add", task_id="id"), "json")[2]
    known = {"task_id": "id", "attempt": 1, "queue": "celery", "rank": 0, "headers": "", "body": body}
    return Asked((kind, number, marked, detail, tuple(Delivery(**{**known, **fields}))))


def _answer(rows: Rows, *asked: Asked) -> list[tuple[int, str, int]]:
    return Rescue(rows, "me", "worker").answer(asked)  # type: ignore[arg-type]


# Suspects


def test_a_suspect_that_is_done_is_settled_unrun(rows: Rows, results: Results) -> None:
    # given
    results.shut = {("id", 1)}

    # when
    answers = _answer(rows, _asked(errands.EXAMINE, row_id=1, suspect=True))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert rows.did == [("finish", 1)]


def test_a_suspect_that_is_not_done_may_run(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.EXAMINE, row_id=1, suspect=True, starts=2))

    # then
    assert answers == [(7, RUN, 1)]
    assert rows.did == []


def test_a_suspect_without_a_row_gets_one_first(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.EXAMINE, suspect=True))

    # then
    assert answers == [(7, RUN, 101)]
    assert 101 in rows.ours


def test_a_suspect_is_marked_when_a_child_is_free_for_it(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.MARK, row_id=1, suspect=True, starts=1))

    # then
    assert [answer[:2] for answer in answers] == [(7, RUN)]
    assert rows.did == [("mark", 1, 2)]


def test_a_suspect_whose_attempt_has_a_row_already_is_left_to_that(rows: Rows) -> None:
    # given
    rows.known = {("id", 1)}

    # when
    answers = _answer(rows, _asked(errands.EXAMINE, suspect=True))

    # then
    assert answers == [(7, SETTLE, 0)]


def test_a_suspect_that_is_not_ours_any_more_is_left_alone(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.MARK, row_id=9, suspect=True))

    # then
    assert [answer[:2] for answer in answers] == [(7, SETTLE)]


def test_a_suspect_that_was_started_three_times_is_dead(rows: Rows, results: Results) -> None:
    # when
    answers = _answer(rows, _asked(errands.EXAMINE, row_id=1, suspect=True, starts=3))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert rows.did[0][:3] == ("bury", 1, 0)
    assert "started 3 times" in rows.did[0][3]
    assert [(one.state, one.attempt) for one in results.stored] == [(states.FAILURE, 1)]


def test_a_relayed_copy_just_runs(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.EXAMINE, relayed=True))

    # then
    assert answers == [(7, RUN, 0)]
    assert (rows.did, rows.inserted) == ([], [])


# Crashes


def test_a_crash_is_counted_in_the_row(rows: Rows, results: Results) -> None:
    # when
    answers = _answer(rows, _asked(errands.CRASHED, row_id=2, marked=True, detail="signal 9"))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert rows.did == [("crash", 2, 1, True)]
    assert results.stored == []


def test_a_crash_without_a_row_becomes_one(rows: Rows) -> None:
    # when
    _answer(rows, _asked(errands.CRASHED, crashes=1, detail="signal 9"))

    # then
    (again,) = rows.inserted
    assert (again.task_id, again.task, again.crashes, again.reason) == ("id", "shop.add", 2, None)


def test_the_third_crash_is_the_end(rows: Rows, results: Results) -> None:
    # when
    _answer(rows, _asked(errands.CRASHED, row_id=2, crashes=2, detail="signal 9 (SIGKILL)"))

    # then
    assert rows.did[0][:3] == ("bury", 2, 3)
    assert "its process died 3 times running it; last: signal 9 (SIGKILL) on " in rows.did[0][3]
    assert results.stored[0].state == states.FAILURE
    assert "WorkerLost" in results.stored[0].result


def test_a_crash_after_the_result_was_stored_is_no_crash(rows: Rows, results: Results) -> None:
    # given
    results.shut = {("id", 1)}

    # when
    _answer(rows, _asked(errands.CRASHED, row_id=2, crashes=2, detail="signal 9"))

    # then
    assert rows.did == [("finish", 2)]
    assert results.stored == []


def test_a_message_that_is_not_ours_any_more_is_not_buried(rows: Rows, results: Results) -> None:
    # when
    _answer(rows, _asked(errands.CRASHED, row_id=9, crashes=2, detail="signal 9"))

    # then
    assert (rows.did, results.stored) == ([], [])


def test_a_body_that_cannot_be_read_is_no_obstacle(rows: Rows) -> None:
    assert _answer(rows, _asked(errands.CRASHED, row_id=2, crashes=2, body=b"\xff", detail="signal 9"))


# At most once, and rows


def test_who_waits_for_what_runs_at_most_once_learns_that_it_will_not(rows: Rows, results: Results) -> None:
    # when
    answers = _answer(rows, _asked(errands.ABANDONED, detail="its process died"))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert "its process died; acks_late is False, so it is not tried again" in results.stored[0].result


def test_rows_are_given_back_without_the_marks_that_we_put(rows: Rows) -> None:
    # when
    answers = _answer(
        rows,
        _asked(errands.RELEASE, number=1, row_id=1, marked=True),
        _asked(errands.RELEASE, number=2, row_id=2),
    )

    # then
    assert sorted(answers) == [(1, SETTLE, 0), (2, SETTLE, 0)]
    assert rows.did == [("release", 1, True), ("release", 2, False)]


def test_a_message_that_is_kept_takes_its_start_marks_along(rows: Rows) -> None:
    """They came as headers; a worker that dies before the next mark must not have them forgotten."""
    # when
    _answer(rows, _asked(errands.EXAMINE, suspect=True, starts=2))

    # then
    assert [one.headers for one in rows.inserted] == [{"starts": 2}]


def test_finishing_deletes_the_row_whoever_asks_again(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.FINISH, number=1, row_id=1), _asked(errands.FINISH, number=2, row_id=9))

    # then
    assert answers == [(1, SETTLE, 0), (2, SETTLE, 0)]
    assert rows.did == [("finish", 1)]


def test_what_must_run_at_most_once_is_marked_so_that_it_never_starts_again(rows: Rows) -> None:
    # when
    answers = _answer(
        rows, _asked(errands.START_ONCE, number=1, row_id=1), _asked(errands.START_ONCE, number=2, row_id=9)
    )

    # then
    assert answers == [(1, RUN, 1), (2, SETTLE, 0)]
    assert rows.did == [("mark", 1, ONLY_START)]


def test_what_must_run_at_most_once_gets_a_row_if_it_came_without_one(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.START_ONCE, number=1))

    # then
    assert answers == [(1, RUN, 101)]
    assert rows.did == [("mark", 101, ONLY_START)]


def test_what_must_run_at_most_once_does_not_run_when_a_copy_of_it_has(rows: Rows, results: Results) -> None:
    # given
    results.shut.add(("id", 1))

    # when
    answers = _answer(rows, _asked(errands.START_ONCE, number=1, row_id=1))

    # then
    assert answers == [(1, SETTLE, 0)]
    assert rows.did == [("finish", 1)]


def test_what_has_started_for_its_only_time_is_dead_and_not_started_again(rows: Rows, results: Results) -> None:
    # when
    answers = _answer(rows, _asked(errands.EXAMINE, row_id=1, suspect=True, starts=ONLY_START))

    # then
    assert answers == [(7, SETTLE, 0)]
    ((what, row_id, _, reason),) = rows.did
    assert (what, row_id) == ("bury", 1)
    assert "acks_late is False" in reason
    assert [one.state for one in results.stored] == [states.FAILURE]


def test_what_is_abandoned_with_a_row_takes_that_along(rows: Rows, results: Results) -> None:
    # when
    _answer(rows, _asked(errands.ABANDONED, row_id=1, detail="its process died"))
    _answer(rows, _asked(errands.ABANDONED, row_id=9, detail="its process died"))

    # then
    assert rows.did == [("finish", 1)]
    assert [one.state for one in results.stored] == [states.FAILURE]


def test_parking_gives_a_row(rows: Rows) -> None:
    # when
    answers = _answer(rows, _asked(errands.PARK, tag=None))

    # then
    assert answers == [(7, RUN, 101)]


# Time limits


@pytest.mark.parametrize("row_id", [0, 1])
def test_what_passed_its_time_limit_has_failed(rows: Rows, results: Results, row_id: int) -> None:
    # given
    heard: list[Any] = []

    def listen(**facts: Any) -> None:
        heard.append((facts["task_id"], facts["state"], facts["error"]))

    signals.task_finished.connect(listen)

    # when
    answers = _answer(rows, _asked(errands.OVERDUE, row_id=row_id, detail="60 s"))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert rows.did == ([("finish", 1)] if row_id else [])
    (failure,) = results.stored
    assert (failure.state, failure.name) == (states.FAILURE, "shop.add")
    assert "TimeLimitExceeded" in failure.result
    text = "TimeLimitExceeded: shop.add ran longer than its time limit of 60 s, and was killed"
    assert heard == [("id", states.FAILURE, text)]
    signals.task_finished.disconnect(listen)


def test_what_passed_its_time_limit_in_a_row_of_others_is_left_to_them(rows: Rows, results: Results) -> None:
    # when
    answers = _answer(rows, _asked(errands.OVERDUE, row_id=9))

    # then
    assert answers == [(7, SETTLE, 0)]
    assert results.stored == []


def test_failures_that_are_stored_here_are_counted(rows: Rows) -> None:
    # given
    counted: list[tuple[str, float]] = []
    rescue = Rescue(rows, "me", "worker", count=lambda *one: counted.append(one))  # type: ignore[arg-type]

    # when
    rescue.answer([_asked(errands.OVERDUE), _asked(errands.ABANDONED), _asked(errands.CRASHED, row_id=2, crashes=2)])

    # then
    assert counted == [(states.FAILURE, 0.0)] * 3


def test_a_failure_that_is_stored_already_is_not_announced_again(
    rows: Rows, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    heard: list[Any] = []

    def listen(*, task_id: str, **_: Any) -> None:
        heard.append(task_id)

    signals.task_finished.connect(listen)
    monkeypatch.setattr(results, "store", lambda _: set())

    # when
    _answer(rows, _asked(errands.OVERDUE, row_id=0))

    # then
    signals.task_finished.disconnect(listen)
    assert heard == []


def test_who_waits_for_what_must_not_run_again_is_told_and_so_is_the_log(rows: Rows, results: Results) -> None:
    # given
    heard: list[Any] = []

    def listen(**facts: Any) -> None:
        heard.append((facts["task_id"], facts["state"], facts["error"]))

    signals.task_finished.connect(listen)

    # when
    _answer(rows, _asked(errands.ABANDONED, detail="its process died"))

    # then
    signals.task_finished.disconnect(listen)
    text = "WorkerLost: shop.add: its process died; acks_late is False, so it is not tried again"
    assert heard == [("id", states.FAILURE, text)]
    assert len(results.stored) == 1


def test_rows_of_the_relay_that_were_started_too_often_are_buried_and_the_others_returned(
    rows: Rows, results: Results
) -> None:
    """Published, they would be no rows for a while, and a copy that finds none would run."""

    # given
    def row(number: int, starts: int) -> tuple[int, Message]:
        headers = {message.STARTS: starts}
        return number, Message(task_id=f"id {number}", task="a", body=b"{}", queue="q", headers=headers)

    page = [row(1, 0), row(2, ONLY_START), row(3, MOST_STARTS)]

    # when
    left = Rescue(rows, "me", "worker").bury_worn_out(page)  # type: ignore[arg-type]

    # then
    assert left == page[:1]
    assert [(what, row_id) for what, row_id, *_ in rows.did] == [("bury", 2), ("bury", 3)]
    assert [result.state for result in results.stored] == [states.FAILURE] * 2


def test_a_row_of_the_relay_that_was_started_too_often_is_not_dead_if_its_task_is_done(
    rows: Rows, results: Results
) -> None:
    """Where results live elsewhere, a worker may be lost between the result and the end of the row."""
    # given
    results.shut = {("id", 1)}
    done = Message(task_id="id", task="a", body=b"{}", queue="q", headers={message.STARTS: ONLY_START})

    # when
    left = Rescue(rows, "me", "worker").bury_worn_out([(2, done)])  # type: ignore[arg-type]

    # then
    assert left == []
    assert rows.did == [("finish", 2)]
    assert results.stored == []


def test_the_only_start_of_what_was_not_started_is_taken_back(rows: Rows) -> None:
    # when
    _answer(
        rows,
        _asked(errands.RELEASE, row_id=1, detail=errands.UNSTARTED),
        _asked(errands.RELEASE, row_id=2, detail=errands.UNSTARTED, starts=2),
        _asked(errands.RELEASE, row_id=3),
    )

    # then
    assert rows.did[:2] == [("mark", 1, 0), ("mark", 2, 2)]
    assert rows.did[2:] == [("release", 1, False), ("release", 2, False), ("release", 3, False)]
